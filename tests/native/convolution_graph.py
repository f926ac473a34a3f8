"""A short convolution on the same rows, by infrs's kernel and by a float64 reference."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from kernel_graphs import FLOAT, Floats, graph_of, opened_with_own

from infrs.native.options import AUTO, KernelOptions


@dataclass(frozen=True)
class Form:
    """The sizes and attributes of a node. width: inputs of an output."""

    channels: int = 48
    width: int = 4
    activation: str = "silu"
    bias: bool = False


FORMS = [
    Form(),
    Form(activation="none", bias=True),
    Form(channels=1, width=2, bias=True),
    Form(channels=577, width=3, activation="none"),
    Form(channels=7, width=9),
]


@cache
def constants(form: Form) -> dict[str, Floats]:
    """Return weight [channels, 1, width] and, if the form has one, bias [channels]."""
    rng = np.random.default_rng(form.channels)
    made = {"weight": rng.standard_normal((form.channels, 1, form.width)).astype(np.float32)}
    return made | ({"bias": rng.standard_normal(form.channels).astype(np.float32)} if form.bias else {})


def model(form: Form, **attributes: object) -> onnx.ModelProto:
    """Return the graph of one node. attributes: replace those of the form."""
    shape = ["rows", "tokens", form.channels]
    state = ["rows", form.width - 1, form.channels]
    given: dict[str, Any] = {"x": (FLOAT, shape), "weight": constants(form)["weight"]}
    given |= {"bias": constants(form).get("bias"), "past": (FLOAT, state), "active": (FLOAT, ["rows", 1, 1])}
    outputs = {"y": shape, "present": state}
    made = graph_of("ShortConvolution", given, outputs, {"activation": form.activation, **attributes})
    made.graph.node[0].domain = made.opset_import[1].domain = "infrs.native"
    return made


@cache
def session(form: Form, threads: int, kernels: KernelOptions = AUTO) -> ort.InferenceSession:
    """Return a session that infrs's kernel runs."""
    return opened_with_own(model(form), threads, kernels)


def drawn(form: Form, rows: int, tokens: int, seed: int) -> dict[str, Floats]:
    """Return inputs of active rows."""
    rng = np.random.default_rng(seed)
    shapes = {"x": (rows, tokens, form.channels), "past": (rows, form.width - 1, form.channels)}
    feeds = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return feeds | {"active": np.ones((rows, 1, 1), np.float32)}


def exact(form: Form, feeds: dict[str, Floats]) -> npt.NDArray[np.float64]:
    """Return the outputs in float64."""
    inputs = np.concatenate([feeds["past"], feeds["x"]], axis=1).astype(np.float64)
    weight, tokens = constants(form)["weight"][:, 0].astype(np.float64), feeds["x"].shape[1]
    y = sum(weight[:, tap] * inputs[:, tap : tap + tokens] for tap in range(form.width))
    y = y + constants(form).get("bias", np.float32(0))
    return y / (1 + np.exp(-y)) if form.activation == "silu" else y
