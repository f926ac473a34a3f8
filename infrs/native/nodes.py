"""Nodes of an ONNX file that `infrs.native` can run, and the choice of which of them it does run.

ONNX Runtime chooses a kernel by an operator's domain and name, the same for all nodes of a session. So a node that
infrs's kernels do not implement keeps its domain, and each other node moves to a domain that only infrs's kernels have.
Both names of a domain have the same length, so a move overwrites bytes in place and changes no length in the file.
"""

from __future__ import annotations

import mmap
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from infrs.native.onnx_file import (
    ATTRIBUTE_NAME,
    FUNCTION_ATTRIBUTE,
    FUNCTION_DEFAULT,
    FUNCTION_NODE,
    GRAPH_NODE,
    MODEL_FUNCTION,
    MODEL_GRAPH,
    MODEL_OPSET_IMPORT,
    NODE_DOMAIN,
    NODE_NAME,
    NODE_OP_TYPE,
    NODE_OUTPUT,
    Found,
    Operator,
    function_operator,
    walk_nodes,
)
from infrs.native.protobuf import Buffer, find_fields, group_fields, last_text, short_field

# See kReplaced and the constants after it in library.cpp.
SELECTED_DOMAINS = {b"com.microsoft": b"infrs.kernels", b"infrs.native": b"native.infrs"}


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
        functions = list(find_fields(content, whole, MODEL_FUNCTION))
        declared = dict(_declaration(content, function) for function in functions)
        nodes = [
            *_nodes(content, find_fields(content, whole, MODEL_GRAPH), GRAPH_NODE, depth=0),
            *_nodes(content, functions, FUNCTION_NODE, depth=1),
        ]
        known = (declared.get((content[node.domain].decode(), node.op_type), node.attributes) for node in nodes)
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
        opset = short_field(1, domain) + bytes([2 << 3, 1])
        content += short_field(MODEL_OPSET_IMPORT, opset)
    return bytes(content)


def _nodes(content: Buffer, places: Iterable[slice], number: int, depth: int) -> Iterator[Node]:
    """Yield the nodes of graphs or functions in a domain of `SELECTED_DOMAINS`; see `walk_nodes`."""
    for place in places:
        for found in walk_nodes(content, place, number, depth):
            domain = found.fields[NODE_DOMAIN]
            if domain and content[domain[-1]] in SELECTED_DOMAINS:
                yield _read_node(content, found)


def _read_node(content: Buffer, found: Found) -> Node:
    fields = found.fields
    attributes = (content[name].decode() for attribute in found.attributes for name in attribute[ATTRIBUTE_NAME])
    name = last_text(content, fields[NODE_NAME])
    outputs = tuple(content[output].decode() for output in fields[NODE_OUTPUT] if content[output])
    if not outputs:
        raise ValueError(f"a node without an output: {name!r}")
    if any(separator in text for text in (name, *outputs) for separator in "\t\n"):
        raise ValueError(f"a node has a tab or a line break in a name: {name!r}")  # `take_refusals` separates by them
    op_type, domain = last_text(content, fields[NODE_OP_TYPE]), fields[NODE_DOMAIN][-1]
    return Node(name, op_type, outputs, tuple(attributes), domain, nested=found.depth > 0)


def _declaration(content: Buffer, function: slice) -> tuple[Operator, set[str]]:
    """Return a function's operator, and the attributes that it declares, without or with a default."""
    fields = group_fields(content, function)
    declared = {content[name].decode() for name in fields[FUNCTION_ATTRIBUTE]}
    defaults = [group_fields(content, default)[ATTRIBUTE_NAME] for default in fields[FUNCTION_DEFAULT]]
    return function_operator(content, fields), declared | {last_text(content, names) for names in defaults}
