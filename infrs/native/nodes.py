"""Nodes of an ONNX file that `infrs.native` can run, and the choice of which of them it does run.

ONNX Runtime chooses a kernel by an operator's domain and name, the same for all nodes of a session. So a node that
infrs's kernels do not implement keeps its domain, and each other node moves to a domain that only infrs's kernels have.
Both names of a domain have the same length, so a move overwrites bytes in place and changes no length in the file.
The format is protobuf: https://protobuf.dev/programming-guides/encoding/, with the fields of `onnx.proto`.
"""

from __future__ import annotations

import mmap
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
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
_Fields = defaultdict[int, list[slice]]


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
        node = _grouped(content, place)
        attributes = [_grouped(content, attribute) for attribute in node[_NODE_ATTRIBUTE]]
        if node[_NODE_DOMAIN] and content[node[_NODE_DOMAIN][-1]] in SELECTED_DOMAINS:
            names = [content[name].decode() for attribute in attributes for name in attribute[_ATTRIBUTE_NAME]]
            yield _read_node(content, node, tuple(names), nested=depth > 0)
        for attribute in attributes:
            for subgraph in attribute[_ATTRIBUTE_GRAPH] + attribute[_ATTRIBUTE_GRAPHS]:
                yield from _nodes(content, subgraph, _GRAPH_NODE, depth + 1)


def _read_node(content: _Buffer, fields: _Fields, attributes: tuple[str, ...], *, nested: bool) -> Node:
    name = _last(content, fields[_NODE_NAME])
    outputs = tuple(content[output].decode() for output in fields[_NODE_OUTPUT] if content[output])
    if not outputs:
        raise ValueError(f"a node without an output: {name!r}")
    if any(separator in text for text in (name, *outputs) for separator in "\t\n"):
        raise ValueError(f"a node has a tab or a line break in a name: {name!r}")  # `take_refusals` separates by them
    return Node(name, _last(content, fields[_NODE_OP_TYPE]), outputs, attributes, fields[_NODE_DOMAIN][-1], nested)


def _declaration(content: _Buffer, function: slice) -> tuple[tuple[bytes, str], set[str]]:
    """Return a function's domain and name, and the attributes that it declares, without or with a default."""
    fields = _grouped(content, function)
    operator = _last(content, fields[_FUNCTION_DOMAIN]).encode(), _last(content, fields[_FUNCTION_NAME])
    declared = {content[name].decode() for name in fields[_FUNCTION_ATTRIBUTE]}
    defaults = [_grouped(content, default)[_ATTRIBUTE_NAME] for default in fields[_FUNCTION_DEFAULT]]
    return operator, declared | {_last(content, names) for names in defaults}


def _last(content: _Buffer, values: Sequence[slice]) -> str:
    """Return the last value of a field, which a parser takes, or "" if there is none."""
    return content[values[-1]].decode() if values else ""


def _grouped(content: _Buffer, message: slice) -> _Fields:
    """Return where the values of each length-delimited field are, by the field's number."""
    fields: _Fields = defaultdict(list)
    for number, value in _all_fields(content, message):
        fields[number].append(value)
    return fields


def _fields(content: _Buffer, message: slice, number: int) -> Iterator[slice]:
    """Yield where the values of a length-delimited field are. Raises ValueError if the message is not valid."""
    return (value for found, value in _all_fields(content, message) if found == number)


def _all_fields(content: _Buffer, message: slice) -> Iterator[tuple[int, slice]]:
    """Yield the number and place of each length-delimited field."""
    at = message.start
    while at < message.stop:
        tag, at = _varint(content, at)
        wire_type = tag & 7
        if wire_type == _LENGTH_DELIMITED:
            length, at = _varint(content, at)
            yield tag >> 3, slice(at, at + length)
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
