"""Walk over the nodes of an ONNX file without the package `onnx`. The numbers of fields are those of `onnx.proto`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from infrs.native.protobuf import Content, Fields, find_fields, group_fields

MODEL_GRAPH, MODEL_OPSET_IMPORT, MODEL_FUNCTION, GRAPH_NODE = 7, 8, 25, 1
NODE_OUTPUT, NODE_NAME, NODE_OP_TYPE, NODE_DOMAIN = 2, 3, 4, 7
ATTRIBUTE_NAME = 1
FUNCTION_NAME, FUNCTION_ATTRIBUTE, FUNCTION_NODE, FUNCTION_DOMAIN, FUNCTION_DEFAULT = 1, 6, 7, 10, 11
_NODE_ATTRIBUTE, _ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS = 5, 6, 11
_MAX_DEPTH = 16  # of subgraphs

Operator = tuple[str, str]  # domain and name


@dataclass(frozen=True, slots=True)
class Found:
    """A node where it is in the file. attributes: the fields of each. depth: of the subgraph with the node."""

    fields: Fields
    attributes: list[Fields]
    depth: int

    def operator(self, content: Content) -> Operator:
        """Return the node's operator."""
        return content.last_text(self.fields[NODE_DOMAIN]), content.last_text(self.fields[NODE_OP_TYPE])


def walk_nodes(content: Content, graph: slice, number: int, depth: int = 0) -> Iterator[Found]:
    """Yield the nodes of a graph or function, which are its fields of this number, and those of their subgraphs.

    depth: of the graph; a node of a function is as deep as one of a subgraph.
    Raises ValueError if the file is not a valid ONNX model.
    """
    if depth > _MAX_DEPTH:
        raise ValueError(f"subgraphs are nested more than {_MAX_DEPTH} deep")
    for place in find_fields(content, graph, number):
        fields = group_fields(content, place)
        found = Found(fields, [group_fields(content, attribute) for attribute in fields[_NODE_ATTRIBUTE]], depth)
        yield found
        for attribute in found.attributes:
            for subgraph in attribute[_ATTRIBUTE_GRAPH] + attribute[_ATTRIBUTE_GRAPHS]:
                yield from walk_nodes(content, subgraph, GRAPH_NODE, depth + 1)


def function_operator(content: Content, function: Fields) -> Operator:
    """Return the operator that a function of the file defines."""
    return content.last_text(function[FUNCTION_DOMAIN]), content.last_text(function[FUNCTION_NAME])
