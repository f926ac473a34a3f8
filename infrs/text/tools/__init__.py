"""Tool calls in a model's text: one file a format, each with `detect`, `parser` and `grammar`."""
