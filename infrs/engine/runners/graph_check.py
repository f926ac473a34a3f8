"""Check what a graph may cost before ONNX Runtime opens it, and that it has the sizes of its manifest afterwards.

ONNX Runtime cannot be interrupted while it opens a graph. So the work must follow from the size of the file: no loops,
and functions that call no functions. A chain of 30 functions with two calls each would have 2^30 nodes.
"""

from __future__ import annotations

import mmap
from contextlib import suppress
from pathlib import Path

from infrs.bundle import graph_signature as graph
from infrs.bundle.manifest import Manifest
from infrs.engine.runners.session import Session
from infrs.errors import BundleError
from infrs.native.onnx_file import (
    FUNCTION_NODE,
    GRAPH_NODE,
    MODEL_FUNCTION,
    MODEL_GRAPH,
    Operator,
    function_operator,
    walk_nodes,
)
from infrs.native.protobuf import Buffer, find_fields, group_fields

_LOOPS = {"Loop", "Scan", "SequenceMap"}
_MAX_NODES = 1_000_000


def check_operators(path: Path) -> None:
    """Raise BundleError for a graph with loops, nested functions or too many nodes.

    A file that is no ONNX model is not an error here: `create_session` reports why.
    """
    with (
        suppress(OSError, ValueError),
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        _check_operators(content, slice(0, len(content)))


def _check_operators(content: Buffer, model: slice) -> None:
    functions: dict[Operator, list[Operator]] = {}
    for place in find_fields(content, model, MODEL_FUNCTION):
        operator = function_operator(content, group_fields(content, place))
        functions[operator] = [node.operator(content) for node in walk_nodes(content, place, FUNCTION_NODE)]
    count = 0
    for place in find_fields(content, model, MODEL_GRAPH):
        for node in walk_nodes(content, place, GRAPH_NODE):
            operator = node.operator(content)
            count += 1 + len(functions.get(operator, ()))
            _check_loop(operator)
            if count > _MAX_NODES:
                raise BundleError(f"the graph has more than {_MAX_NODES} nodes; export the model again")
    for function, body in functions.items():
        for operator in body:
            _check_loop(operator)
            if operator in functions:
                raise BundleError(
                    f"the function {function[1]!a} of the graph calls the function {operator[1]!a}, which infrs does "
                    "not allow; export the model again"
                )


def _check_loop(operator: Operator) -> None:
    if operator[0] in ("", "ai.onnx") and operator[1] in _LOOPS:
        raise BundleError(f"the graph has a {operator[1]} node, which infrs does not run; export the model again")


def check_sizes(session: Session, manifest: Manifest) -> None:
    """Raise BundleError if a fixed size among a graph's inputs and outputs is not that of the manifest."""
    shapes = {node.name: node.shape for node in (*session.get_inputs(), *session.get_outputs())}
    num_layers = len(manifest.states)
    expected = [(graph.LOGITS, -1, manifest.vocab_size)]
    for names in (graph.past_names(num_layers), graph.present_names(num_layers)):
        for name, state in zip(names, (state for state in manifest.states for _ in range(2)), strict=True):
            expected += [(name, 1, state.shape[0]), (name, 3, state.shape[1])]
    for name, axis, size in expected:
        shape = shapes.get(name, [])
        if len(shape) > abs(axis) and isinstance(shape[axis], int) and shape[axis] != size:
            raise BundleError(f"the graph's {name} has the size {shape[axis]}, not {size}; export the model again")
