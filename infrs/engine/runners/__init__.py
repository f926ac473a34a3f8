"""Run a bundle's graph in ONNX Runtime: the session, the slab, one runner for each kind of graph."""
