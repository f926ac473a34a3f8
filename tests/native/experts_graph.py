"""Experts on the same rows, by infrs's kernel, by its kernels for products and gates, and by a float64 reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from kernel_graphs import FLOAT, INT64, Floats, graph_of, opened_with_own

from infrs.native.options import AUTO, KernelOptions

BLOCK = 32
Inputs = dict[str, npt.NDArray[Any]]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Form:
    """The sizes and attributes of a node. chosen: experts of a row."""

    bits: int = 4
    levels: tuple[int, ...] = ()  # of weights of 4 bits; none: even ones
    experts: int = 6
    chosen: int = 3
    width: int = 96
    inner: int = 64
    biases: bool = False
    alpha: float = 1.0
    beta: float = 0.0
    limit: float = 0.0
    cubic: float = 0.0


NARROW = (-34, -28, -22, -17, -13, -9, -6, -3, 0, 3, 6, 10, 14, 18, 23, 30)  # 64 apart
WIDE = (-128, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 127)

FORMS = {
    "4 bits": Form(),
    "8 bits": Form(bits=8),
    "levels": Form(levels=NARROW),
    "wide levels and biases": Form(levels=WIDE, biases=True),
    "biases": Form(biases=True),
    "8 bits and biases": Form(bits=8, biases=True, inner=32),
    "gpt-oss": Form(biases=True, alpha=1.702, beta=1.0, limit=7.0, inner=96),
    "a low limit": Form(bits=8, alpha=0.5, beta=-0.25, limit=0.75),
    "gelu": Form(alpha=1.5957691, cubic=0.044715),
    "8 bits and gelu": Form(bits=8, alpha=1.5957691, cubic=0.044715, inner=96),
    "one expert of each row": Form(experts=40, chosen=1, width=32, inner=32),
    "every expert": Form(bits=8, experts=5, chosen=5),
    "one expert": Form(experts=1, chosen=1, width=288, inner=160),
    "many experts": Form(experts=64, chosen=8, width=64, inner=32),
}


@cache
def weights_of(form: Form) -> dict[str, npt.NDArray[Any]]:
    """Return the constants of a node."""
    rng = np.random.default_rng(form.bits)
    constants: dict[str, npt.NDArray[Any]] = {}
    for name, outputs, inputs in (
        ("gate_up", 2 * form.inner, form.width),
        ("down", form.width, form.inner),
    ):
        shape = (form.experts, outputs, inputs // BLOCK)
        constants[name] = rng.integers(0, 256, (*shape, BLOCK * form.bits // 8), dtype=np.uint8)
        largest = -form.levels[0] if form.levels else 2.0 ** (form.bits - 1)
        size = 2 / largest / np.sqrt(inputs)
        constants[f"{name}_scales"] = (size * rng.uniform(0.1, 1.5, shape)).astype(np.float16)
    if form.biases:
        constants["gate_up_bias"] = rng.standard_normal((form.experts, 2 * form.inner)).astype(np.float32)
        constants["down_bias"] = rng.standard_normal((form.experts, form.width)).astype(np.float32)
    return constants


def model(form: Form, **attributes: object) -> onnx.ModelProto:
    """Return a graph of one node. `attributes` extend or replace those of the form."""
    inputs: dict[str, Any] = {
        "x": (FLOAT, None),
        "weights": (FLOAT, None),
        "indices": (INT64, None),
    } | weights_of(form)
    if form.levels:
        biases = dict.fromkeys(() if form.biases else ("gate_up_bias", "down_bias"))
        inputs |= biases | {"levels": np.array(form.levels, np.float32)}
    own = {
        "bits": form.bits,
        "block_size": BLOCK,
        "k": form.chosen,
        "alpha": form.alpha,
        "beta": form.beta,
        "limit": form.limit,
    }
    if form.cubic:
        own["cubic"] = form.cubic
    made = graph_of("Experts", inputs, {"y": None}, own | attributes)
    made.graph.node[0].domain = made.opset_import[1].domain = "infrs.native"
    return made


@cache
def session(form: Form, threads: int = 1, kernels: KernelOptions = AUTO) -> ort.InferenceSession:
    return opened_with_own(model(form), threads, kernels)


def drawn(form: Form, rows: int, seed: int) -> Inputs:
    """Return rows of different magnitudes, and different experts for each of them."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, form.width)) * 10.0 ** rng.uniform(-1, 0.5, (rows, 1))
    chosen = [rng.permutation(form.experts)[: form.chosen] for _ in range(rows)]
    return {
        "x": x.astype(np.float32),
        "weights": rng.uniform(0, 1, (rows, form.chosen)).astype(np.float32),
        "indices": np.array(chosen, np.int64).reshape(rows, form.chosen),
    }


def with_indices(inputs: Inputs, row: int, index: int) -> Inputs:
    """Return the inputs with another last expert of a row."""
    indices = inputs["indices"].copy()
    indices[row, -1] = index
    return inputs | {"indices": indices}


def run(form: Form, inputs: Mapping[str, Any], *, threads: int = 1, kernels: KernelOptions = AUTO) -> Floats:
    return np.asarray(session(form, threads, kernels).run(None, dict(inputs))[0])


def dequantized(form: Form, name: str) -> Doubles:
    """Return the matrices of all experts, [experts, outputs, inputs]."""
    constants = weights_of(form)
    values, scales = constants[name], constants[f"{name}_scales"]
    if form.bits == 4:
        values = np.stack([values & 15, values >> 4], axis=-1).reshape(*values.shape[:3], BLOCK)
    levels = np.array(form.levels or range(-(2 ** (form.bits - 1)), 2 ** (form.bits - 1)), np.float64)[values]
    return (levels * scales[..., None].astype(np.float64)).reshape(*values.shape[:2], -1)


def activated(form: Form, pairs: Doubles) -> Doubles:
    """Return ONNX Runtime's SwiGLU of alternating gates and ups, [rows, 2 * inner], or the GELU with a tanh."""
    gate, up = pairs[:, ::2], pairs[:, 1::2]
    if form.limit:
        gate, up = np.minimum(gate, form.limit), np.clip(up, -form.limit, form.limit)
    if form.cubic:
        return gate / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + form.cubic * gate**3))) * up
    return gate / (1 + np.exp(-form.alpha * gate)) * (up + form.beta)


def reference(form: Form, inputs: Inputs) -> Doubles:
    """Compute the operator in float64, with inputs that are not rounded."""
    gate_up, down = dequantized(form, "gate_up"), dequantized(form, "down")
    constants = weights_of(form)
    result = np.zeros((len(inputs["x"]), form.width))
    for row, x in enumerate(inputs["x"].astype(np.float64)):
        for weight, expert in zip(inputs["weights"][row], inputs["indices"][row], strict=True):
            pairs = gate_up[expert] @ x
            if form.biases:
                pairs = pairs + constants["gate_up_bias"][expert]
            y = down[expert] @ activated(form, pairs[None])[0]
            if form.biases:
                y = y + constants["down_bias"][expert]
            result[row] += float(weight) * y
    return result


@cache
def _product(form: Form, name: str, expert: int, kernels: KernelOptions) -> ort.InferenceSession:
    """Return a session of one matrix of an expert. The outputs of gate_up are all gates, then all ups."""
    constants = weights_of(form)
    parts = [constants[name][expert], constants[f"{name}_scales"][expert]]
    bias = constants[f"{name}_bias"][expert] if form.biases else None
    if name == "gate_up":
        order = np.r_[0 : 2 * form.inner : 2, 1 : 2 * form.inner : 2]
        parts, bias = [part[order] for part in parts], None if bias is None else bias[order]
    outputs, inputs = parts[0].shape[0], parts[0].shape[1] * BLOCK
    given: dict[str, Any] = {"x": (FLOAT, ["rows", inputs]), "values": parts[0], "scales": parts[1]}
    attributes = {"N": outputs, "K": inputs}
    if form.levels:
        given |= {"levels": np.array(form.levels, np.float32), "bias": bias}
        made = graph_of("MatMulLevels", given, {"y": ["rows", outputs]}, attributes)
    else:
        attributes |= {"bits": form.bits, "block_size": BLOCK}
        unused = {} if bias is None else {"zero_points": None, "g_idx": None, "bias": bias}
        made = graph_of("MatMulNBits", given | unused, {"y": ["rows", outputs]}, attributes)
    made.graph.node[0].domain = made.opset_import[1].domain = "infrs.native"
    return opened_with_own(made, 1, kernels)


@cache
def _gate(kernels: KernelOptions) -> ort.InferenceSession:
    made = graph_of("GatedQuickGelu", {"x": (FLOAT, ["rows", "doubled"])}, {"y": ["rows", "width"]}, {})
    made.graph.node[0].domain = made.opset_import[1].domain = "infrs.native"
    return opened_with_own(made, 1, kernels)


def separately(form: Form, inputs: Inputs, kernels: KernelOptions) -> Floats:
    """Compute a node of the plain activation by infrs's other kernels, row by row, and add the experts in float32."""
    result = np.zeros((len(inputs["x"]), form.width), np.float32)
    for row, x in enumerate(inputs["x"]):
        for place, (weight, expert) in enumerate(zip(inputs["weights"][row], inputs["indices"][row], strict=True)):
            pairs = _product(form, "gate_up", int(expert), kernels).run(None, {"x": x[None]})[0]
            inner = _gate(kernels).run(None, {"x": pairs})[0]
            y = weight * _product(form, "down", int(expert), kernels).run(None, {"x": inner})[0][0]
            result[row] = result[row] + y if place else y
    return result
