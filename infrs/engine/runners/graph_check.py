"""Check what a graph may cost before ONNX Runtime opens it, and that it has the sizes of its manifest afterwards.

ONNX Runtime cannot be interrupted while it opens a graph. So the work must follow from the size of the file: no loops,
and functions that call no functions. A chain of 30 functions with two calls each would have 2^30 nodes.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from infrs.bundle import graph_signature as graph
from infrs.bundle.manifest import Manifest
from infrs.engine.runners.session import Session
from infrs.errors import BundleError
from infrs.native.protobuf import Buffer, find_fields, group_fields, last_text

# Of onnx.proto.
_MODEL_GRAPH, _MODEL_FUNCTION, _GRAPH_NODE = 7, 25, 1
_NODE_OP_TYPE, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS = 6, 11
_FUNCTION_NAME, _FUNCTION_NODE, _FUNCTION_DOMAIN = 1, 7, 10

_LOOPS = {"Loop", "Scan", "SequenceMap"}
_MAX_NODES = 1_000_000
_MAX_DEPTH = 16  # of subgraphs

_Operator = tuple[str, str]  # domain and name


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
    functions: dict[_Operator, list[_Operator]] = {}
    for place in find_fields(content, model, _MODEL_FUNCTION):
        fields = group_fields(content, place)
        operator = last_text(content, fields[_FUNCTION_DOMAIN]), last_text(content, fields[_FUNCTION_NAME])
        functions[operator] = list(_operators(content, place, _FUNCTION_NODE))
    count = 0
    for place in find_fields(content, model, _MODEL_GRAPH):
        for operator in _operators(content, place, _GRAPH_NODE):
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


def _check_loop(operator: _Operator) -> None:
    if operator[0] in ("", "ai.onnx") and operator[1] in _LOOPS:
        raise BundleError(f"the graph has a {operator[1]} node, which infrs does not run; export the model again")


def _operators(content: Buffer, place: slice, number: int, depth: int = 0) -> Iterator[_Operator]:
    """Yield the operator of each node in a graph or function, and of those in its subgraphs."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"subgraphs are nested more than {_MAX_DEPTH} deep")
    for node in find_fields(content, place, number):
        fields = group_fields(content, node)
        yield last_text(content, fields[_NODE_DOMAIN]), last_text(content, fields[_NODE_OP_TYPE])
        for attribute in fields[_NODE_ATTRIBUTE]:
            values = group_fields(content, attribute)
            for subgraph in values[_ATTRIBUTE_GRAPH] + values[_ATTRIBUTE_GRAPHS]:
                yield from _operators(content, subgraph, _GRAPH_NODE, depth + 1)


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
