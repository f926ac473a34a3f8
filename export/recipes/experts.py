"""Lower the experts of a mixture to ONNX Runtime's operators, with the routing that the model computed.

Its MoE and QMoE have the gate of SiLU alone; `dense_experts` has the others. Both choose experts by themselves: a
softmax over logits, the largest k, and their shares of the sum. Logits that are the logarithms of the model's own
weights, and minus infinity elsewhere, choose its experts with its weights divided by their sum. The result times that
sum is the model's, whatever its router computes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from .domains import MICROSOFT

NO_LIMIT = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class Gate:
    """The activation of experts: gate * sigmoid(alpha * (gate + cubic * gate**3)) * (up + beta).

    Before it, the gate is at most `limit`, and the other half is clipped to [-limit, limit].
    """

    alpha: float = 1.0
    beta: float = 0.0
    limit: float = NO_LIMIT
    cubic: float = 0.0


# The GELU with a tanh, because 1 + tanh(v) = 2 sigmoid(2v).
GELU_TANH = Gate(alpha=2 * math.sqrt(2 / math.pi), cubic=0.044715)


@dataclass(frozen=True)
class ExpertWeights:
    """The weights of E experts of width I. name, source: as of `Weight`.

    gate_up: float32 [E, 2 * I, H], rows gate 0, up 0, gate 1, up 1 and so on. down: float32 [E, H, I].
    gate_up_bias: float32 [E, 2 * I], in the same order, or None. down_bias: float32 [E, H] or None.
    """

    name: str
    source: str
    gate_up: NDArray[np.float32]
    down: NDArray[np.float32]
    gate_up_bias: NDArray[np.float32] | None
    down_bias: NDArray[np.float32] | None
    gate: Gate
    top_k: int

    @property
    def attributes(self) -> dict[str, Any]:
        """Return the attributes of the operator."""
        own = {"k": self.top_k, "alpha": self.gate.alpha, "beta": self.gate.beta, "limit": self.gate.limit}
        return own | {"cubic": self.gate.cubic} if self.gate.cubic else own


@dataclass(frozen=True)
class Routing:
    """The names of x [T, H], of the routing weights, float32 [T, k], and of the experts' indices, int64 [T, k]."""

    x: str
    weights: str
    indices: str


def swiglu(gate: Gate, top_k: int) -> dict[str, Any]:
    """Return the attributes of MoE and QMoE for the experts' activation and number."""
    return {
        "k": top_k,
        "activation_alpha": gate.alpha,
        "activation_beta": gate.beta,
        "swiglu_limit": gate.limit,
    }


def operator(kind: str, inputs: Sequence[str], attributes: Mapping[str, object]) -> onnx.NodeProto:
    """Return a `MoE` or `QMoE` for `routed`. inputs: those after the logits. attributes: those of the experts."""
    common = {"activation_type": "swiglu", "swiglu_fusion": 1, "normalize_routing_weights": 1}  # gate, up alternate
    return helper.make_node(kind, list(inputs), [], domain=MICROSOFT, **common, **attributes)  # type: ignore[arg-type]


def routed(name: str, routing: Routing, experts: str, chosen: onnx.NodeProto, y: str) -> list[onnx.NodeProto]:
    """Return the nodes of the logits, the operator `chosen`, and its scaling by the sum of the weights.

    name: of the values between. experts: a tensor [E, ...].
    """

    def value(part: str) -> str:
        return f"{name}/{part}"

    infinity = numpy_helper.from_array(np.array([-np.inf], np.float32))
    last = numpy_helper.from_array(np.array([-1], np.int64))
    nodes = [
        helper.make_node("Shape", [routing.weights], [value("rows")], start=0, end=1),
        helper.make_node("Shape", [experts], [value("experts")], start=0, end=1),
        helper.make_node("Concat", [value("rows"), value("experts")], [value("shape")], axis=0),
        helper.make_node("ConstantOfShape", [value("shape")], [value("none")], value=infinity),
        helper.make_node("Log", [routing.weights], [value("log")]),
        helper.make_node("ScatterElements", [value("none"), routing.indices, value("log")], [value("logits")], axis=-1),
        helper.make_node("Constant", [], [value("last")], value=last),
        helper.make_node("ReduceSum", [routing.weights, value("last")], [value("sum")], keepdims=1),
    ]
    inputs = [routing.x, value("logits"), *chosen.input]
    chosen.ClearField("input")
    chosen.input.extend(inputs)
    chosen.output.append(value("shares"))
    nodes += [chosen, helper.make_node("Mul", [value("shares"), value("sum")], [y])]
    for node in nodes:
        node.name = f"{node.output[0]}/{node.op_type}"
    return nodes
