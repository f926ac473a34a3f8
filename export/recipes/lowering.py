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

from .experts import ExpertWeights, Routing


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


def expert_biases(weights: ExpertWeights) -> tuple[list[Tensor], list[str]]:
    """Return the biases as tensors, and the names of both as inputs, empty for none."""
    biases = [(f"{weights.name}.{part}", getattr(weights, part)) for part in ("gate_up_bias", "down_bias")]
    tensors = [Tensor(name, array) for name, array in biases if array is not None]
    return tensors, [name if array is not None else "" for name, array in biases]
