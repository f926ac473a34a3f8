"""The recipe of float32, float16 and bfloat16: weights are stored as they are or rounded, and computed in float32."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from infrs.errors import ExportError

from .dense_experts import Nodes, activate, dense_matrices, sizes_of
from .domains import NATIVE
from .experts import ExpertWeights, Routing, operator, routed, swiglu
from .lowering import Lowered, Tensor, Weight, expert_biases

FLOAT32 = np.dtype(np.float32)
HALF_DTYPES: dict[str, np.dtype[np.generic]] = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}


class FloatLowering:
    """A lowering that stores weights in a float dtype and computes in float32.

    Products read weights untransposed, so a tied lm_head shares the embedding's tensor. input_bits: the minimum bits of
    a product's activations in infrs's kernels. With 16, those next to bfloat16 weights may be rounded to bfloat16.
    """

    def __init__(self, dtype: np.dtype[np.generic] = FLOAT32, input_bits: int = 32) -> None:
        self._dtype = dtype
        self._input_bits = input_bits

    def linear(self, weight: Weight, x: str, y: str) -> Lowered:
        """Return infrs's `Linear`, and an `Add` of a bias. Raises ExportError if a weight overflows."""
        result = y if weight.bias is None else f"{weight.name}/product"
        nodes = [self._product([x, weight.source], result, f"{weight.name}/Linear")]
        tensors = [self._stored(weight)]
        if weight.bias is not None:
            tensors.append(Tensor(f"{weight.name}.bias", weight.bias))
            nodes.append(helper.make_node("Add", [result, tensors[-1].name], [y], name=f"{weight.name}/Add"))
        return Lowered(nodes, tensors)

    def _product(self, inputs: list[str], output: str, name: str) -> onnx.NodeProto:
        return helper.make_node("Linear", inputs, [output], name=name, domain=NATIVE, input_bits=self._input_bits)

    def embedding(self, weight: Weight, ids: str, y: str) -> Lowered:
        """Return a `Gather`, with a `Cast` of rows of 16 bits. Raises ExportError if a weight overflows."""
        rows = y if self._dtype == FLOAT32 else f"{weight.name}/rows"
        nodes = [helper.make_node("Gather", [weight.source, ids], [rows], name=f"{weight.name}/Gather")]
        if rows != y:
            nodes.append(_cast(rows, y, f"{weight.name}/Cast"))
        return Lowered(nodes, [self._stored(weight)])

    def experts(self, weights: ExpertWeights, routing: Routing, y: str) -> Lowered:
        """Return a `MoE` with the model's routing, or products of all experts for a gate that MoE lacks.

        ONNX Runtime has no fast 16-bit product on x86: it widens 16-bit weights at load.
        Raises ExportError if a weight overflows.
        """
        if weights.gate.cubic:
            return self._dense(weights, routing, y)
        biases, names = expert_biases(weights)
        casts, tensors = [], []
        for part in ("gate_up", "down"):
            name = wide = f"{weights.source}.{part}"
            if self._dtype != FLOAT32:
                name = f"{wide}.narrow"
                casts.append(_cast(name, wide, f"{wide}/Cast"))
            tensors.append(Tensor(name, round_to(getattr(weights, part), self._dtype, wide)))
        parts = [f"{weights.source}.gate_up", names[0], f"{weights.source}.down", names[1]]
        moe = operator("MoE", parts, swiglu(weights.gate, weights.top_k))
        nodes = routed(weights.name, routing, parts[0], moe, y)
        return Lowered(casts + nodes, [*tensors, *biases])

    def _dense(self, weights: ExpertWeights, routing: Routing, y: str) -> Lowered:
        """Return two products with the matrices of all experts."""
        gate_up, down = (
            Tensor(f"{weights.source}.{part}", round_to(array, self._dtype, weights.source))
            for part, array in zip(("gate_up", "down"), dense_matrices(weights), strict=True)
        )
        nodes = Nodes(weights.name)
        pairs = f"{weights.name}/pairs"
        nodes.nodes.append(self._product([routing.x, gate_up.name], pairs, f"{weights.name}/gate_up"))
        inner = activate(nodes, pairs, routing, sizes_of(weights), weights.gate)
        nodes.nodes.append(self._product([inner, down.name], y, f"{weights.name}/down"))
        return Lowered(nodes.nodes, [gate_up, down])

    def _stored(self, weight: Weight) -> Tensor:
        return Tensor(weight.source, round_to(weight.array, self._dtype, weight.name))


def round_to(array: NDArray[np.float32], dtype: np.dtype[np.generic], name: str) -> NDArray[np.generic]:
    """Round `array` to a float dtype. Raises ExportError if a finite value overflows. `name`: for the error."""
    if dtype == array.dtype:
        return array
    with np.errstate(over="ignore"):
        narrow: NDArray[np.generic] = array.astype(dtype)
    if not np.isfinite(narrow.astype(np.float32)).all() and np.isfinite(array).all():
        raise ExportError(f"{name} holds values beyond the range of {dtype.name}; choose --dtype bfloat16 or float32")
    return narrow


def _cast(source: str, target: str, name: str) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], name=name, to=onnx.TensorProto.FLOAT)
