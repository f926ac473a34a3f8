"""How close quantised weights stay to float32."""
