"""The format of bundles: manifest, graph signature, cache lookup."""
