"""The domains of the operators in a bundle's graph, besides ONNX's own."""

MICROSOFT = "com.microsoft"
NATIVE = "infrs.native"  # operators of infrs's kernels; the graph also defines each as a function
