"""Check what a graph may cost before ONNX Runtime opens it.

ONNX Runtime cannot be interrupted while it opens a graph. So the work must follow from the size of the file: no loops,
and functions that call no functions. A chain of 30 functions with two calls each would have 2^30 nodes.
"""

from __future__ import annotations

from infrs.errors import BundleError
from infrs.native.nodes import Graph

_LOOPS = {"Loop", "Scan", "SequenceMap"}
_MAX_NODES = 1_000_000


def check_work(graph: Graph) -> None:
    """Raise BundleError for a graph with loops, nested functions or too many nodes."""
    for operators in (graph.operators, *graph.functions.values()):
        for domain, name in operators:
            if domain in ("", "ai.onnx") and name in _LOOPS:
                raise BundleError(f"the graph has a {name} node, which infrs does not run; export the model again")
    for function, body in graph.functions.items():
        for operator in body:
            if operator in graph.functions:
                raise BundleError(
                    f"the function {function[1]!a} of the graph calls the function {operator[1]!a}, which infrs does "
                    "not allow; export the model again"
                )
    sizes = {function: body.total() for function, body in graph.functions.items()}
    if sum(count * (1 + sizes.get(operator, 0)) for operator, count in graph.operators.items()) > _MAX_NODES:
        raise BundleError(f"the graph has more than {_MAX_NODES} nodes; export the model again")
