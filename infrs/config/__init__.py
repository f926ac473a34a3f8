"""Settings: their schema, and the layers of file, environment and flags."""
