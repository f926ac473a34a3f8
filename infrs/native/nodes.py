"""Nodes of an ONNX file that `infrs.native` can run, and the choice of which of them it does run.

ONNX Runtime chooses a kernel by an operator's domain and name, the same for all nodes of a session. So a node that
infrs's kernels do not implement keeps its domain, and each other node moves to a domain that only infrs's kernels have.
Both names of a domain have the same length, so a move overwrites bytes in place and changes no length in the file.
The format is protobuf: https://protobuf.dev/programming-guides/encoding/, with the fields of `onnx.proto`.
"""

from __future__ import annotations

import mmap
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

# See kReplaced and the constants after it in library.cpp.
SELECTED_DOMAINS = {b"com.microsoft": b"infrs.kernels", b"infrs.native": b"native.infrs"}

_MODEL_GRAPH, _MODEL_OPSET_IMPORT, _MODEL_FUNCTION, _GRAPH_NODE = 7, 8, 25, 1
_NODE_OUTPUT, _NODE_NAME, _NODE_OP_TYPE, _NODE_ATTRIBUTE, _NODE_DOMAIN = 2, 3, 4, 5, 7
_ATTRIBUTE_NAME, _ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS = 1, 6, 11
_FUNCTION_NAME, _FUNCTION_ATTRIBUTE, _FUNCTION_NODE, _FUNCTION_DOMAIN, _FUNCTION_DEFAULT = 1, 6, 7, 10, 11
_FIXED_SIZES = {1: 8, 5: 4}  # bytes by wire type
_LENGTH_DELIMITED = 2
_MAX_DEPTH = 16  # of subgraphs

_Buffer = bytes | mmap.mmap


@dataclass(frozen=True, slots=True)
class Node:
    """A node in a domain of `SELECTED_DOMAINS`.

    outputs: those that the node does not omit, at least one. domain: where its domain's name is in the file.
    nested: the node is in a subgraph or a function, so it cannot move to another domain.
    undeclared: an attribute that the operator's function in the file does not declare, or "".
    """

    name: str
    op_type: str
    outputs: tuple[str, ...]
    attributes: tuple[str, ...]
    domain: slice
    nested: bool = False
    undeclared: str = ""


def read_nodes(path: Path) -> list[Node]:
    """Return the nodes of a model file that are in a domain of `SELECTED_DOMAINS`, with those of subgraphs.

    Raises ValueError if the file is not a valid ONNX model.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        whole = slice(0, len(content))
        functions = list(_fields(content, whole, _MODEL_FUNCTION))
        declared = dict(_declaration(content, function) for function in functions)
        nodes = [
            *(node for graph in _fields(content, whole, _MODEL_GRAPH) for node in _nodes(content, graph, _GRAPH_NODE)),
            *(node for function in functions for node in _nodes(content, function, _FUNCTION_NODE, depth=1)),
        ]
        known = (declared.get((content[node.domain], node.op_type), node.attributes) for node in nodes)
        return [
            replace(node, undeclared=min(set(node.attributes).difference(names), default=""))
            for node, names in zip(nodes, known, strict=True)
        ]


def with_selected(path: Path, nodes: Collection[Node]) -> bytes:
    """Return the content of a model file with these nodes moved to the domains that only infrs's kernels have."""
    content = bytearray(path.read_bytes())
    for node in nodes:
        content[node.domain] = SELECTED_DOMAINS[bytes(content[node.domain])]
    for domain in SELECTED_DOMAINS.values():  # further values of a repeated field may be at the end
        opset = _field(1, domain) + bytes([2 << 3, 1])
        content += _field(_MODEL_OPSET_IMPORT, opset)
    return bytes(content)


def _nodes(content: _Buffer, graph: slice, number: int, depth: int = 0) -> Iterator[Node]:
    """Yield the nodes of a graph or function, which are its fields of this number, and those of their subgraphs."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"subgraphs are nested more than {_MAX_DEPTH} deep")
    for place in _fields(content, graph, number):
        if (node := _read_node(content, place, nested=depth > 0)) is not None:
            yield node
        for attribute in _fields(content, place, _NODE_ATTRIBUTE):
            for kind in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
                for subgraph in _fields(content, attribute, kind):
                    yield from _nodes(content, subgraph, _GRAPH_NODE, depth + 1)


def _read_node(content: _Buffer, place: slice, *, nested: bool) -> Node | None:
    *_, domain = [None, *_fields(content, place, _NODE_DOMAIN)]  # a parser takes the last value of a field
    if domain is None or content[domain] not in SELECTED_DOMAINS:
        return None
    name = _last(content, place, _NODE_NAME).decode()
    outputs = tuple(content[field].decode() for field in _fields(content, place, _NODE_OUTPUT) if content[field])
    if not outputs:
        raise ValueError(f"a node without an output: {name!r}")
    if any(separator in text for text in (name, *outputs) for separator in "\t\n"):
        raise ValueError(f"a node has a tab or a line break in a name: {name!r}")  # `take_refusals` separates by them
    attributes = (
        content[attribute_name].decode()
        for attribute in _fields(content, place, _NODE_ATTRIBUTE)
        for attribute_name in _fields(content, attribute, _ATTRIBUTE_NAME)
    )
    return Node(name, _last(content, place, _NODE_OP_TYPE).decode(), outputs, tuple(attributes), domain, nested)


def _declaration(content: _Buffer, function: slice) -> tuple[tuple[bytes, str], set[str]]:
    """Return a function's domain and name, and the attributes that it declares, without or with a default."""
    operator = _last(content, function, _FUNCTION_DOMAIN), _last(content, function, _FUNCTION_NAME).decode()
    declared = {content[name].decode() for name in _fields(content, function, _FUNCTION_ATTRIBUTE)}
    defaults = _fields(content, function, _FUNCTION_DEFAULT)
    return operator, declared | {_last(content, default, _ATTRIBUTE_NAME).decode() for default in defaults}


def _last(content: _Buffer, message: slice, number: int) -> bytes:
    """Return the last value of a length-delimited field, which a parser takes, or b"" if there is none."""
    value = b""
    for field in _fields(content, message, number):
        value = content[field]
    return value


def _fields(content: _Buffer, message: slice, number: int) -> Iterator[slice]:
    """Yield where the values of a length-delimited field are. Raises ValueError if the message is not valid."""
    at = message.start
    while at < message.stop:
        tag, at = _varint(content, at)
        wire_type = tag & 7
        if wire_type == _LENGTH_DELIMITED:
            length, at = _varint(content, at)
            if tag >> 3 == number:
                yield slice(at, at + length)
            at += length
        elif wire_type == 0:
            at = _varint(content, at)[1]
        elif wire_type in _FIXED_SIZES:
            at += _FIXED_SIZES[wire_type]
        else:
            raise ValueError(f"unknown protobuf wire type {wire_type}")
        if at > message.stop:
            raise ValueError("a protobuf field is longer than its message")


def _varint(content: _Buffer, at: int) -> tuple[int, int]:
    """Return an integer of variable length and the place after it."""
    value = shift = 0
    while True:
        if at >= len(content) or shift > 63:
            raise ValueError("a protobuf integer does not end")
        byte = content[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _field(number: int, value: bytes) -> bytes:
    """Return a length-delimited field with a value of less than 128 bytes."""
    return bytes([number << 3 | _LENGTH_DELIMITED, len(value)]) + value
