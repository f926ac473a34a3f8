"""Convert a model to an ONNX graph: trace, assemble, stream the weights."""
