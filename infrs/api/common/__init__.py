"""What all routes share: strict JSON, field types, validation errors, tools, structured output."""
