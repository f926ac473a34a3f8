"""Rewrites of the traced graph before its weights are lowered."""

from __future__ import annotations

from collections import Counter

import onnx
from onnx import helper

_SKIP = {
    "SimplifiedLayerNormalization": "SkipSimplifiedLayerNormalization",
    "LayerNormalization": "SkipLayerNormalization",
}


def fuse_residual_norms(graph: onnx.GraphProto) -> None:
    """Replace each residual add and norm by one operator. It returns the norm and, if it is used, the sum."""
    constants = {tensor.name for tensor in graph.initializer}
    constants |= {node.output[0] for node in graph.node if node.op_type in ("Constant", "ConstantOfShape")}
    uses = Counter(name for node in graph.node for name in node.input)
    adds = {node.output[0]: node for node in graph.node if node.op_type == "Add" and constants.isdisjoint(node.input)}
    fused: dict[str, onnx.NodeProto] = {}
    for norm in graph.node:
        add = adds.pop(norm.input[0], None) if norm.op_type in _SKIP else None
        if add is None:
            continue
        total = [] if uses[add.output[0]] == 1 else ["", "", add.output[0]]
        epsilon = next(attribute.f for attribute in norm.attribute if attribute.name == "epsilon")
        fused[add.output[0]] = helper.make_node(
            _SKIP[norm.op_type],
            [*add.input, *norm.input[1:]],
            [norm.output[0], *total],
            name=norm.name,
            domain="com.microsoft",
            epsilon=epsilon,
        )
    names = {node.name for node in fused.values()}
    # The new node takes the place of the add, before all uses of the sum; gamma and beta are constants.
    kept = [
        fused.get(node.output[0], node) for node in graph.node if not (node.op_type in _SKIP and node.name in names)
    ]
    del graph.node[:]
    graph.node.extend(kept)
