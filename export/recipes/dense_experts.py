"""Lower experts with a gate that ONNX Runtime's operators for mixtures lack: as one MLP of all experts.

The weights of a token's routes scale the activations of its experts, and are 0 for the others. Each token reads every
expert, so a model with 128 experts, of which a token has 8, does 16 times the work.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from .domains import MICROSOFT
from .experts import ExpertWeights, Gate, Routing


@dataclass(frozen=True)
class Sizes:
    """The number of experts, and their widths."""

    experts: int
    inner: int
    hidden: int


@dataclass
class Nodes:
    """A list of nodes. name: the beginning of the names of their values."""

    name: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)

    def add(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:  # noqa: ANN401 (ONNX's)
        """Add a node and return its output."""
        output = output or f"{self.name}/value_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"{output}/{kind}", **attributes))
        return output

    def constant(self, value: NDArray[Any] | float | list[int]) -> str:
        """Add a constant, float32 or int64, and return its name."""
        array = np.asarray(value, np.float32 if isinstance(value, float) else None)
        return self.add("Constant", [], value=numpy_helper.from_array(array))


def dense_matrices(weights: ExpertWeights) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the matrices of the one MLP: gate_up [E * 2 * I, H] and down [H, E * I]."""
    hidden = weights.down.shape[1]
    return weights.gate_up.reshape(-1, hidden), weights.down.transpose(1, 0, 2).reshape(hidden, -1)


def sizes_of(weights: ExpertWeights) -> Sizes:
    """Return the sizes of experts."""
    experts, hidden, inner = weights.down.shape
    return Sizes(experts, inner, hidden)


def block_product(nodes: Nodes, inputs: list[str], output: str = "", *, shape: tuple[int, int], bits: int) -> str:
    """Add x @ weight.T for blocks of 32. inputs: x [T, K], values and scales (float32). shape: N, K."""
    blocks = {"bits": bits, "block_size": 32, "accuracy_level": 4}
    return nodes.add("MatMulNBits", inputs, output, domain=MICROSOFT, N=shape[0], K=shape[1], **blocks)


def activate(nodes: Nodes, pairs: str, routing: Routing, sizes: Sizes, gate: Gate) -> str:
    """Return the scaled activations [T, E * I] for the first product, [T, E * 2 * I]."""
    pairs = nodes.add("Reshape", [pairs, nodes.constant([0, sizes.experts, sizes.inner, 2])])
    opening, up = (nodes.add("Gather", [pairs, nodes.constant(np.array(half))], axis=-1) for half in (0, 1))
    square = nodes.add("Mul", [opening, opening])
    slope = nodes.add("Add", [nodes.add("Mul", [square, nodes.constant(gate.cubic)]), nodes.constant(1.0)])
    slope = nodes.add("Mul", [nodes.add("Mul", [opening, slope]), nodes.constant(gate.alpha)])
    opened = nodes.add("Mul", [opening, nodes.add("Sigmoid", [slope])])
    inner = nodes.add("Mul", [opened, nodes.add("Add", [up, nodes.constant(gate.beta)])])
    rows = nodes.add("Shape", [routing.weights], start=0, end=1)
    shape = nodes.add("Concat", [rows, nodes.constant([sizes.experts])], axis=0)
    zeros = nodes.add("ConstantOfShape", [shape])
    shares = nodes.add("ScatterElements", [zeros, routing.indices, routing.weights], axis=-1)
    shares = nodes.add("Unsqueeze", [shares, nodes.constant([-1])])
    inner = nodes.add("Mul", [inner, shares])
    return nodes.add("Reshape", [inner, nodes.constant([0, sizes.experts * sizes.inner])])
