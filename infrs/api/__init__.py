"""Turn request bodies into engine requests and deltas into answers. Knows no HTTP."""
