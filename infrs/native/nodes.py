"""Nodes of an ONNX file that `infrs.native` can run, and the choice of which of them it does run.

ONNX Runtime chooses a kernel by an operator's domain and name, the same for all nodes of a session. So a node that
infrs's kernels do not implement keeps its domain, and each other node moves to a domain that only infrs's kernels have.
Both names of a domain have the same length, so a move overwrites bytes in place and changes no length in the file.
The fields are those of `onnx.proto`.
"""

from __future__ import annotations

import mmap
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from infrs.native.protobuf import Buffer, Fields, find_fields, group_fields, last_text, short_field

# See kReplaced and the constants after it in library.cpp.
SELECTED_DOMAINS = {b"com.microsoft": b"infrs.kernels", b"infrs.native": b"native.infrs"}

_MODEL_GRAPH, _MODEL_OPSET_IMPORT, _MODEL_FUNCTION, _GRAPH_NODE = 7, 8, 25, 1
_NODE_OUTPUT, _NODE_NAME, _NODE_OP_TYPE, _NODE_ATTRIBUTE, _NODE_DOMAIN = 2, 3, 4, 5, 7
_ATTRIBUTE_NAME, _ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS = 1, 6, 11
_FUNCTION_NAME, _FUNCTION_ATTRIBUTE, _FUNCTION_NODE, _FUNCTION_DOMAIN, _FUNCTION_DEFAULT = 1, 6, 7, 10, 11
_MAX_DEPTH = 16  # of subgraphs


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
        functions = list(find_fields(content, whole, _MODEL_FUNCTION))
        declared = dict(_declaration(content, function) for function in functions)
        nodes = [
            *(
                node
                for graph in find_fields(content, whole, _MODEL_GRAPH)
                for node in _nodes(content, graph, _GRAPH_NODE)
            ),
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
        opset = short_field(1, domain) + bytes([2 << 3, 1])
        content += short_field(_MODEL_OPSET_IMPORT, opset)
    return bytes(content)


def _nodes(content: Buffer, graph: slice, number: int, depth: int = 0) -> Iterator[Node]:
    """Yield the nodes of a graph or function, which are its fields of this number, and those of their subgraphs."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"subgraphs are nested more than {_MAX_DEPTH} deep")
    for place in find_fields(content, graph, number):
        node = group_fields(content, place)
        attributes = [group_fields(content, attribute) for attribute in node[_NODE_ATTRIBUTE]]
        if node[_NODE_DOMAIN] and content[node[_NODE_DOMAIN][-1]] in SELECTED_DOMAINS:
            names = [content[name].decode() for attribute in attributes for name in attribute[_ATTRIBUTE_NAME]]
            yield _read_node(content, node, tuple(names), nested=depth > 0)
        for attribute in attributes:
            for subgraph in attribute[_ATTRIBUTE_GRAPH] + attribute[_ATTRIBUTE_GRAPHS]:
                yield from _nodes(content, subgraph, _GRAPH_NODE, depth + 1)


def _read_node(content: Buffer, fields: Fields, attributes: tuple[str, ...], *, nested: bool) -> Node:
    name = last_text(content, fields[_NODE_NAME])
    outputs = tuple(content[output].decode() for output in fields[_NODE_OUTPUT] if content[output])
    if not outputs:
        raise ValueError(f"a node without an output: {name!r}")
    if any(separator in text for text in (name, *outputs) for separator in "\t\n"):
        raise ValueError(f"a node has a tab or a line break in a name: {name!r}")  # `take_refusals` separates by them
    return Node(name, last_text(content, fields[_NODE_OP_TYPE]), outputs, attributes, fields[_NODE_DOMAIN][-1], nested)


def _declaration(content: Buffer, function: slice) -> tuple[tuple[bytes, str], set[str]]:
    """Return a function's domain and name, and the attributes that it declares, without or with a default."""
    fields = group_fields(content, function)
    operator = last_text(content, fields[_FUNCTION_DOMAIN]).encode(), last_text(content, fields[_FUNCTION_NAME])
    declared = {content[name].decode() for name in fields[_FUNCTION_ATTRIBUTE]}
    defaults = [group_fields(content, default)[_ATTRIBUTE_NAME] for default in fields[_FUNCTION_DEFAULT]]
    return operator, declared | {last_text(content, names) for names in defaults}
