"""Compare the loaded model with its configuration and its weights."""
