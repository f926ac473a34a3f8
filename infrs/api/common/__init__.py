"""Code that the APIs share: strict JSON, fields, validation errors, tools, the neutral conversation."""
