"""Nodes of an ONNX file that `infrs.native` can run, and the choice of which of them it does run.

ONNX Runtime chooses a kernel by an operator's domain and name, the same for all nodes of a session. So a node that
infrs's kernels do not implement keeps its domain, and each other node moves to a domain that only infrs's kernels have.
Both names of a domain have the same length, so a move overwrites bytes in place and changes no length in the file.
"""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
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
from infrs.native.protobuf import Content, Fields, find_fields, group_fields, short_field

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


@dataclass(frozen=True, slots=True)
class Graph:
    """What a model file computes.

    nodes: those of graphs, subgraphs and functions in a domain of `SELECTED_DOMAINS`. operators: how many nodes of
    graphs and subgraphs have an operator. functions: the same of the body of each function, by the operator that it
    defines.
    """

    nodes: list[Node] = field(default_factory=list)
    operators: Counter[Operator] = field(default_factory=Counter)
    functions: dict[Operator, Counter[Operator]] = field(default_factory=dict)


def read_graph(path: Path) -> Graph:
    """Read a model file. Raises ValueError if it is not a valid ONNX model, or has too many fields."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        content, whole, graph = Content(data), slice(0, len(data)), Graph()
        functions = [(place, group_fields(content, place)) for place in find_fields(content, whole, MODEL_FUNCTION)]
        declared = {function_operator(content, fields): _declared(content, fields) for _, fields in functions}
        for place in find_fields(content, whole, MODEL_GRAPH):
            _add(graph, graph.operators, content, walk_nodes(content, place, GRAPH_NODE), declared)
        for place, fields in functions:
            body = graph.functions.setdefault(function_operator(content, fields), Counter())
            _add(graph, body, content, walk_nodes(content, place, FUNCTION_NODE, depth=1), declared)
        return graph


def with_selected(path: Path, nodes: Collection[Node]) -> bytes:
    """Return the content of a model file with these nodes moved to the domains that only infrs's kernels have."""
    content = bytearray(path.read_bytes())
    for node in nodes:
        content[node.domain] = SELECTED_DOMAINS[bytes(content[node.domain])]
    for domain in SELECTED_DOMAINS.values():  # further values of a repeated field may be at the end
        opset = short_field(1, domain) + bytes([2 << 3, 1])
        content += short_field(MODEL_OPSET_IMPORT, opset)
    return bytes(content)


def _add(
    graph: Graph,
    operators: Counter[Operator],
    content: Content,
    found: Iterable[Found],
    declared: Mapping[Operator, set[str]],
) -> None:
    """Count the operators of nodes, and add the nodes in a domain of `SELECTED_DOMAINS` to the graph."""
    for node in found:
        operator = node.operator(content)
        operators[operator] += 1
        if operator[0].encode() in SELECTED_DOMAINS:
            graph.nodes.append(_read_node(content, node, declared.get(operator)))


def _read_node(content: Content, found: Found, declared: set[str] | None) -> Node:
    fields = found.fields
    attributes = tuple(content.text(name) for attribute in found.attributes for name in attribute[ATTRIBUTE_NAME])
    name = content.last_text(fields[NODE_NAME])
    outputs = tuple(text for output in fields[NODE_OUTPUT] if (text := content.text(output)))
    if not outputs:
        raise ValueError(f"a node without an output: {name!r}")
    if any(separator in text for text in (name, *outputs) for separator in "\t\n"):
        raise ValueError(f"a node has a tab or a line break in a name: {name!r}")  # `take_refusals` separates by them
    undeclared = "" if declared is None else min(set(attributes) - declared, default="")
    op_type, domain = content.last_text(fields[NODE_OP_TYPE]), fields[NODE_DOMAIN][-1]
    return Node(name, op_type, outputs, attributes, domain, nested=found.depth > 0, undeclared=undeclared)


def _declared(content: Content, function: Fields) -> set[str]:
    """Return the attributes that a function declares, without or with a default."""
    declared = {content.text(name) for name in function[FUNCTION_ATTRIBUTE]}
    defaults = [group_fields(content, default)[ATTRIBUTE_NAME] for default in function[FUNCTION_DEFAULT]]
    return declared | {content.last_text(names) for names in defaults}
