"""Lower weights to ONNX: the interface between the traced graph and the recipes.

The traced graph contains the names of its weights, but not their values. A `Lowering` converts one product or one
embedding at a time to nodes and stored tensors; `assemble` streams them to the bundle. A recipe is a `Lowering`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from .dense_experts import Nodes, activate, dense_matrices, product, sizes_of
from .domains import MICROSOFT
from .experts import ExpertWeights, Routing, operator, routed, swiglu


@dataclass(frozen=True)
class Weight:
    """One weight matrix in the layout of PyTorch's Linear.

    name: unique in the graph, the last part is the role, as `model.layers.0.self_attn.qkv_proj`, `lm_head`.
    source: the parameter(s) it is made of; a tied embedding and lm_head have the same source and array.
    array: float32 [N, K], output features first (embedding: [vocab, hidden]). Never written to.
    bias: float32 [N] or None.
    moments: mean products of pairs of its inputs, from `calibration`; None without calibration.
    """

    name: str
    source: str
    array: NDArray[np.float32]
    bias: NDArray[np.float32] | None = None
    moments: NDArray[np.float32] | None = None

    @property
    def role(self) -> str:
        """Return the role, by which a recipe chooses: `qkv_proj`, `o_proj`, `gate_up_proj`, `lm_head` and so on."""
        return self.name.rpartition(".")[2]


@dataclass(frozen=True)
class Tensor:
    """A tensor to store. Two tensors of one name must be the same; equal bytes are stored once under any name."""

    name: str
    array: NDArray[Any]


@dataclass(frozen=True)
class Lowered:
    """The nodes that replace a placeholder, in topological order, and the tensors they read."""

    nodes: list[onnx.NodeProto]
    tensors: list[Tensor]


class Lowering(Protocol):
    """The weight storage of one recipe. It is called once per weight, in graph order, and must be deterministic.

    New value and node names must start with `weight.name`, which is unique in the graph.
    """

    def linear(self, weight: Weight, x: str, y: str) -> Lowered:
        """Return nodes for y = x @ array.T + bias; x is float32 [..., K] of any rank, y float32 [..., N]."""
        ...

    def embedding(self, weight: Weight, ids: str, y: str) -> Lowered:
        """Return nodes for y = array[ids]; ids is int64 of any rank, y float32 [*ids.shape, K]."""
        ...

    def experts(self, weights: ExpertWeights, routing: Routing, y: str) -> Lowered:
        """Return nodes for y, float32 [T, H]: the weighted sum of the chosen experts' outputs."""
        ...


def add_bias(weight: Weight, bias: NDArray[np.float32], product: str, y: str) -> Lowered:
    """Return an `Add` of the bias, for a product operator without a bias input."""
    tensor = Tensor(f"{weight.name}.bias", bias)
    return Lowered([helper.make_node("Add", [product, tensor.name], [y], name=f"{weight.name}/Add")], [tensor])


class Float32Lowering:
    """A lowering to float32. Products read weights untransposed, so a tied lm_head shares the embedding's tensor."""

    def linear(self, weight: Weight, x: str, y: str) -> Lowered:
        """Return a `FusedMatMul` with transB; ONNX Runtime packs its weights at load, like those of a MatMul."""
        product = y if weight.bias is None else f"{weight.name}/product"
        node = helper.make_node(
            "FusedMatMul",
            [x, weight.source],
            [product],
            name=f"{weight.name}/MatMul",
            domain=MICROSOFT,
            transB=1,
        )
        tensors = [Tensor(weight.source, weight.array)]
        if weight.bias is None:
            return Lowered([node], tensors)
        bias = add_bias(weight, weight.bias, product, y)
        return Lowered([node, *bias.nodes], tensors + bias.tensors)

    def embedding(self, weight: Weight, ids: str, y: str) -> Lowered:
        """Return a `Gather`."""
        node = helper.make_node("Gather", [weight.source, ids], [y], name=f"{weight.name}/Gather")
        return Lowered([node], [Tensor(weight.source, weight.array)])

    def experts(self, weights: ExpertWeights, routing: Routing, y: str) -> Lowered:
        """Return a `MoE` with the model's routing, or products of all experts for a gate that MoE lacks."""
        if weights.gate.cubic:
            return _dense(weights, routing, y)
        gate_up, down = (Tensor(f"{weights.source}.{part}", getattr(weights, part)) for part in ("gate_up", "down"))
        biases, names = expert_biases(weights)
        parts = [gate_up.name, names[0], down.name, names[1]]
        moe = operator("MoE", parts, swiglu(weights.gate, weights.top_k))
        nodes = routed(weights.name, routing, gate_up.name, moe, y)
        return Lowered(nodes, [gate_up, down, *biases])


def _dense(weights: ExpertWeights, routing: Routing, y: str) -> Lowered:
    gate_up, down = (
        Tensor(f"{weights.source}.{part}", array)
        for part, array in zip(("gate_up", "down"), dense_matrices(weights), strict=True)
    )
    nodes = Nodes(weights.name)
    pairs = product(nodes, [routing.x, gate_up.name])
    product(nodes, [activate(nodes, pairs, routing, sizes_of(weights), weights.gate), down.name], y)
    return Lowered(nodes.nodes, [gate_up, down])


def expert_biases(weights: ExpertWeights) -> tuple[list[Tensor], list[str]]:
    """Return the biases as tensors, and the names of both as inputs, empty for none."""
    biases = [(f"{weights.name}.{part}", getattr(weights, part)) for part in ("gate_up_bias", "down_bias")]
    tensors = [Tensor(name, array) for name, array in biases if array is not None]
    return tensors, [name if array is not None else "" for name, array in biases]
