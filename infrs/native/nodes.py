"""Nodes of an ONNX file that `infrs.native` can run, and the choice of which of them it does run.

ONNX Runtime chooses a kernel by an operator's domain and name, the same for all nodes of a session. So a node that
infrs's kernels do not implement keeps its domain, and each other node moves to a domain that only infrs's kernels have.
Both names of a domain have the same length, so a move overwrites bytes in place and changes no length in the file.
The format is protobuf: https://protobuf.dev/programming-guides/encoding/, with the fields of `onnx.proto`.
"""

from __future__ import annotations

import mmap
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

# See kReplaced and the constants after it in library.cpp.
SELECTED_DOMAINS = {b"com.microsoft": b"infrs.kernels", b"infrs.native": b"native.infrs"}

_MODEL_GRAPH, _MODEL_OPSET_IMPORT, _GRAPH_NODE = 7, 8, 1
_NODE_OUTPUT, _NODE_NAME, _NODE_OP_TYPE, _NODE_ATTRIBUTE, _NODE_DOMAIN, _ATTRIBUTE_NAME = 2, 3, 4, 5, 7, 1
_FIXED_SIZES = {1: 8, 5: 4}  # bytes by wire type
_LENGTH_DELIMITED = 2

_Buffer = bytes | mmap.mmap


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the main graph in a domain of `SELECTED_DOMAINS`. domain: where its domain's name is in the file."""

    name: str
    op_type: str
    outputs: tuple[str, ...]
    attributes: tuple[str, ...]
    domain: slice


def read_nodes(path: Path) -> list[Node]:
    """Return the nodes of a model file's main graph that are in a domain of `SELECTED_DOMAINS`.

    Returns no nodes if the file is not a valid ONNX model; ONNX Runtime then reports why.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return [
                node
                for graph in _fields(content, slice(0, len(content)), _MODEL_GRAPH)
                for place in _fields(content, graph, _GRAPH_NODE)
                if (node := _read_node(content, place)) is not None
            ]
    except (OSError, ValueError):
        return []


def with_selected(path: Path, nodes: Collection[Node]) -> bytes:
    """Return the content of a model file with these nodes moved to the domains that only infrs's kernels have."""
    content = bytearray(path.read_bytes())
    for node in nodes:
        content[node.domain] = SELECTED_DOMAINS[bytes(content[node.domain])]
    for domain in SELECTED_DOMAINS.values():  # further values of a repeated field may be at the end
        opset = _field(1, domain) + bytes([2 << 3, 1])
        content += _field(_MODEL_OPSET_IMPORT, opset)
    return bytes(content)


def _read_node(content: _Buffer, place: slice) -> Node | None:
    domain = next(_fields(content, place, _NODE_DOMAIN), None)
    if domain is None or content[domain] not in SELECTED_DOMAINS:
        return None

    def texts(number: int) -> tuple[str, ...]:
        return tuple(content[field].decode() for field in _fields(content, place, number))

    attributes = (
        content[name].decode()
        for attribute in _fields(content, place, _NODE_ATTRIBUTE)
        for name in _fields(content, attribute, _ATTRIBUTE_NAME)
    )
    name, op_type = ("".join(texts(number)) for number in (_NODE_NAME, _NODE_OP_TYPE))
    return Node(name, op_type, texts(_NODE_OUTPUT), tuple(attributes), domain)


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
