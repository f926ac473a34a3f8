"""Nodes that no exporter writes: attributes, sizes and inputs that point beyond the data of the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import attention_graph
import convolution_graph
import experts_graph
import numpy as np
import onnx
from kernel_graphs import FLOAT, graph_of
from onnx import numpy_helper

from infrs.native.options import AUTO, KernelOptions, StoredDtype

HUGE = 9 + 3 * 2**58  # times a head of 64 features it is 9 * 64 in 64 bits
NAN, INF = float("nan"), float("inf")
FORM = attention_graph.Form(heads=9, kv_heads=3, dim=64)
ROTARY = attention_graph.Form(heads=9, kv_heads=3, dim=64, rotary=32)
Feeds = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """A graph of one node, its inputs, and how to run it."""

    model: Callable[[], onnx.ModelProto]
    feeds: Feeds = field(default_factory=dict)
    kernels: KernelOptions = AUTO
    kv_dtype: StoredDtype = "float32"
    in_place: bool = False


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def attention(form: attention_graph.Form = FORM, feeds: Feeds | None = None, **attributes: object) -> Case:
    return Case(lambda: attention_graph.model(form, **attributes), attention_feeds(form) | (feeds or {}))


def attention_feeds(form: attention_graph.Form) -> dict[str, np.ndarray]:
    """Return inputs of two rows with three new tokens each and room for 16."""
    kept = zeros(2, form.kv_heads, 16, form.dim)
    lengths = {"lengths": np.array([2, 2], np.int32), "total": np.array(3, np.int32)}
    return {"query": zeros(2, 3, sum(form.widths)), "past_key": kept, "past_value": kept} | lengths


def retyped(form: attention_graph.Form, **outputs: str) -> Case:
    """Return a case with some outputs renamed or omitted ("")."""

    def model() -> onnx.ModelProto:
        made = attention_graph.model(form)
        node = made.graph.node[0]
        node.output[:] = [outputs.get(name, name) for name in node.output]
        kept = [value for value in made.graph.output if value.name in node.output]
        del made.graph.output[:]
        made.graph.output.extend(kept)
        return made

    return Case(model, attention_feeds(form))


def tables(rows: int, width: int) -> Case:
    """Return a case with rotary tables of another size than the heads or the capacity."""

    def model() -> onnx.ModelProto:
        made = attention_graph.model(ROTARY)
        for tensor in made.graph.initializer:
            tensor.CopyFrom(onnx.numpy_helper.from_array(zeros(rows, width), tensor.name))
        return made

    return Case(model, attention_feeds(ROTARY))


def product(
    *,
    values: tuple[int, ...] = (5, 2, 16),
    scales: tuple[int, ...] = (5, 2),
    x: tuple[int, ...] = (3, 64),
    scale: float = 1.0,
    bias: int = 0,
    **attributes: object,
) -> Case:
    def model() -> onnx.ModelProto:
        given: dict[str, Any] = {
            "x": (FLOAT, ["rows", "width"]),
            "values": np.zeros(values, np.uint8),
            "scales": np.full(scales, scale, np.float32),
        }
        if bias:
            given |= {"zero_points": None, "g_idx": None, "bias": zeros(bias)}
        named = {"N": 5, "K": 64, "bits": 4, "block_size": 32} | attributes
        return graph_of("MatMulNBits", given, {"y": ["rows", "outputs"]}, named)

    return Case(model, {"x": zeros(*x)})


def norm(
    gamma: int = 64,
    x: tuple[int, ...] = (3, 64),
    skip: tuple[int, ...] = (3, 64),
    outputs: tuple[str, ...] = ("y",),
    **attributes: object,
) -> Case:
    def model() -> onnx.ModelProto:
        given: dict[str, Any] = {name: (FLOAT, ["rows", "width"]) for name in ("x", "skip")} | {"gamma": zeros(gamma)}
        shape = ["rows", "width"]
        made = graph_of("SkipSimplifiedLayerNormalization", given, {name or " ": shape for name in outputs}, attributes)
        node = made.graph.node[0]
        node.output[:] = [name.strip() for name in node.output]
        kept = [value for value in made.graph.output if value.name.strip()]
        del made.graph.output[:]
        made.graph.output.extend(kept)
        return made

    return Case(model, {"x": zeros(*x), "skip": zeros(*skip)})


def lengths(*values: int) -> dict[str, np.ndarray]:
    return {"lengths": np.array(values, np.int32)}


def gate(width: int = 64) -> Case:
    def model() -> onnx.ModelProto:
        made = graph_of("GatedQuickGelu", {"x": (FLOAT, ["rows", "width"])}, {"y": ["rows", "half"]}, {})
        made.graph.node[0].domain = made.opset_import[1].domain = "infrs.native"
        return made

    return Case(model, {"x": zeros(3, width)})


CONVOLUTION = convolution_graph.Form(bias=True)


def convolution(feeds: Feeds | None = None, weight: tuple[int, ...] = (), **attributes: object) -> Case:
    """Return a case of a short convolution. weight: another shape of it."""

    def model() -> onnx.ModelProto:
        made = convolution_graph.model(CONVOLUTION, **attributes)
        for value in [*made.graph.input, *made.graph.output]:
            for axis, size in enumerate(value.type.tensor_type.shape.dim):
                size.dim_param = f"{value.name}{axis}"
        if weight:
            made.graph.initializer[0].CopyFrom(numpy_helper.from_array(zeros(*weight), "weight"))
        return made

    return Case(model, convolution_graph.drawn(CONVOLUTION, 2, 3, 0) | (feeds or {}))


MIXTURE = experts_graph.Form(experts=4, chosen=2, width=64, inner=32, biases=True)


def experts(feeds: Feeds | None = None, **attributes: object) -> Case:
    return Case(lambda: experts_graph.model(MIXTURE, **attributes), experts_graph.drawn(MIXTURE, 3, 0) | (feeds or {}))


def reshaped(**shapes: tuple[int, ...]) -> Case:
    """Return a case of experts with constants of other shapes."""

    def model() -> onnx.ModelProto:
        made = experts_graph.model(MIXTURE)
        for tensor in made.graph.initializer:
            if shape := shapes.get(tensor.name):
                array = np.resize(numpy_helper.to_array(tensor), shape)
                tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        return made

    return Case(model, experts_graph.drawn(MIXTURE, 3, 0))


def of_inner(inner: int) -> Case:
    """Return a case of experts with this number of activations, and as many blocks as it needs."""
    blocks = -(-inner // 32)
    return reshaped(
        gate_up=(4, 2 * inner, 2, 16),
        gate_up_scales=(4, 2 * inner, 2),
        gate_up_bias=(4, 2 * inner),
        down=(4, 64, blocks, 16),
        down_scales=(4, 64, blocks),
    )


def indices(*shape: int, index: int = 0) -> dict[str, np.ndarray]:
    return {"indices": np.full(shape, index, np.int64)}


def as_input(name: str) -> Case:
    """Return a case of experts with a constant that is an input of the graph."""

    def model() -> onnx.ModelProto:
        made = experts_graph.model(MIXTURE)
        (tensor,) = (tensor for tensor in made.graph.initializer if tensor.name == name)
        made.graph.input.append(onnx.helper.make_tensor_value_info(name, tensor.data_type, tensor.dims))
        made.graph.initializer.remove(tensor)
        return made

    return Case(model, experts_graph.drawn(MIXTURE, 3, 0) | {name: experts_graph.weights_of(MIXTURE)[name]})


CASES: dict[str, Case] = {
    **{f"num_heads {heads}": attention(num_heads=heads) for heads in (HUGE, 2**62, 2**63 - 1, -9, 0, 10, 3 * 2**20)},
    **{f"kv_num_heads {heads}": attention(kv_num_heads=heads) for heads in (0, -3, 2**62, HUGE, 9, 1)},
    "both heads huge": attention(num_heads=HUGE, kv_num_heads=3 + 2**58),
    "num_heads a float": attention(num_heads=9.0),
    "num_heads a text": attention(num_heads="9"),
    **{f"scale {value}": attention(scale=value) for value in (NAN, INF, -INF)},
    **{f"softcap {value}": attention(softcap=value) for value in (NAN, INF, -1.0)},
    **{f"window {value}": attention(local_window_size=value) for value in (-2, -(2**63), 2**63 - 1)},
    **{f"do_rotary {value}": attention(do_rotary=value) for value in (1, 2, -1)},
    "rotary_interleaved 7": attention(ROTARY, rotary_interleaved=7),
    "tables of few places": tables(2, 32),
    "tables of no places": tables(0, 32),
    "tables wider than a head": tables(64, 33),
    "tables of no width": tables(64, 0),
    "a row beyond its capacity": attention(feeds=lengths(2, 16)),
    "a row far beyond its capacity": attention(feeds=lengths(2, 2**31 - 1)),
    "a negative row": attention(feeds=lengths(-1, 2)),
    "the lowest row": attention(feeds=lengths(-(2**31), 2)),
    "a row shorter than its new tokens": attention(feeds=lengths(1, 2)),
    "more lengths than rows": attention(feeds=lengths(2, 2, 2)),
    "fewer lengths than rows": attention(feeds=lengths(2)),
    "a query of another width": attention(feeds={"query": zeros(2, 3, 64)}),
    "keys of fewer rows": attention(feeds={"past_key": zeros(1, 3, 16, 64)}),
    "values of fewer places": attention(feeds={"past_value": zeros(2, 3, 8, 64)}),
    "an odd capacity": attention(feeds={"past_key": zeros(2, 3, 12, 64), "past_value": zeros(2, 3, 12, 64)}),
    "no rows": attention(
        feeds={"query": zeros(0, 3, 960), "past_key": zeros(0, 3, 16, 64), "past_value": zeros(0, 3, 16, 64)}
        | lengths()
    ),
    "no tokens": attention(feeds={"query": zeros(2, 0, 960)} | lengths(-1, 3)),
    "no tokens, negative rows": attention(feeds={"query": zeros(2, 0, 960)} | lengths(-7, 3)),
    "no present keys": retyped(FORM, present_key=""),
    "no present values": retyped(FORM, present_value=""),
    "no output": retyped(FORM, output=""),
    "smooth_softmax 1": attention(smooth_softmax=1),
    "smooth_softmax -1": attention(smooth_softmax=-1),
    "qk_output 1": attention(qk_output=1),
    "causal 0": attention(causal=0),
    "causal 1": attention(causal=1),
    "causal a text": attention(causal="no"),
    "sliding_window_cache 1": attention(sliding_window_cache=1),
    "k_quant_type": attention(k_quant_type="PER_TENSOR"),
    "k_quant_type NONE": attention(k_quant_type="NONE"),
    "v_quant_type": attention(v_quant_type="PER_CHANNEL"),
    "kv_cache_bit_width 8": attention(kv_cache_bit_width=8),
    **{f"K {value}": product(K=value) for value in (0, -64, 2**62, 2**63 - 1, 96, 32)},
    **{f"N {value}": product(N=value) for value in (0, -5, 2**62, 2**63 - 1, 6, 5 + 2**59)},
    **{f"block_size {value}": product(block_size=value) for value in (0, -32, 1, 2**62)},
    **{f"bits {value}": product(bits=value) for value in (0, -4, 2**62, 8)},
    "K a text": product(K="64"),
    "weight_prepacked 1": product(weight_prepacked=1),
    "few weights": product(values=(4, 2, 16)),
    "few scales": product(scales=(5, 1)),
    "scales that are no numbers": product(scale=NAN),
    "infinite scales": product(scale=INF),
    "a wider input": product(x=(3, 96)),
    "an input of no width": product(x=(3, 0)),
    "a short bias": product(bias=4),
    "no rows of a product": product(x=(0, 64)),
    "a short gamma": norm(gamma=8),
    "a short skip": norm(skip=(1, 64)),
    "no width": norm(gamma=0, x=(3, 0), skip=(3, 0)),
    "epsilon nan": norm(epsilon=NAN),
    "epsilon -1": norm(epsilon=-1.0),
    "epsilon an integer": norm(epsilon=1),
    "the mean": norm(outputs=("y", "mean")),
    "the deviation": norm(outputs=("y", "", "deviation")),
    "no normalised sum": norm(outputs=("", "", "", "sum")),
    "a weight of no channels": convolution(weight=(0, 1, 4)),
    "a weight of one tap": convolution(weight=(48, 1, 1)),
    "a weight of two dimensions": convolution(weight=(48, 4)),
    "a weight of more channels": convolution(weight=(49, 1, 4)),
    "a weight of more taps": convolution(weight=(48, 1, 5)),
    "activation gelu": convolution(activation="gelu"),
    "activation a number": convolution(activation=1),
    "channels of x": convolution({"x": zeros(2, 3, 49)}),
    "taps of the past": convolution({"past": zeros(2, 4, 48)}),
    "rows of the past": convolution({"past": zeros(3, 3, 48)}),
    "rows of active": convolution({"active": zeros(3, 1, 1)}),
    "no rows of a convolution": convolution(convolution_graph.drawn(CONVOLUTION, 0, 3, 0)),
    "no tokens of a convolution": convolution(convolution_graph.drawn(CONVOLUTION, 2, 0, 0)),
    "active nan": convolution({"active": np.full((2, 1, 1), NAN, np.float32)}),
    "a gate of odd width": gate(65),
    "a gate of no width": gate(0),
    **{f"{name} {value}": experts(**{name: value}) for name in ("alpha", "beta", "limit") for value in (NAN, INF)},
    "limit -1": experts(limit=-1.0),
    "alpha an integer": experts(alpha=1),
    **{f"k {value}": experts(k=value) for value in (-1, 1, 3, 5, 2**62)},
    "k 0": experts(k=0),
    **{f"bits of experts {value}": experts(bits=value) for value in (0, -4, 2**62, 8)},
    **{f"block_size of experts {value}": experts(block_size=value) for value in (0, -32, 16, 2**62)},
    **{f"index {index}": experts(indices(3, 2, index=index)) for index in (-1, 4, 2**31, 2**61, 2**63 - 1, -(2**63))},
    "no experts of a row": experts({"weights": zeros(3, 0)} | indices(3, 0)),
    "more experts of a row than there are": experts({"weights": zeros(3, 5)} | indices(3, 5)),
    "experts of fewer rows": experts({"weights": zeros(2, 2)} | indices(2, 2)),
    "weights of fewer rows": experts({"weights": zeros(2, 2)}),
    "weights in a line": experts({"weights": zeros(6)} | indices(6)),
    "a wider row": experts({"x": zeros(3, 96)}),
    "a row of no width": experts({"x": zeros(3, 0)}),
    "a scalar input": experts({"x": zeros()}),
    "no rows of experts": experts({"x": zeros(0, 64), "weights": zeros(0, 2)} | indices(0, 2)),
    "an expert more in gate_up": reshaped(gate_up=(5, 64, 2, 16)),
    "an expert more": reshaped(gate_up=(5, 64, 2, 16), gate_up_scales=(5, 64, 2), gate_up_bias=(5, 64)),
    "an expert more in down": reshaped(down=(5, 64, 1, 16), down_scales=(5, 64, 1)),
    "no experts": reshaped(gate_up=(0, 64, 2, 16), gate_up_scales=(0, 64, 2), down=(0, 64, 1, 16)),
    "huge numbers of no experts": reshaped(gate_up=(2**40, 0, 2, 16), down=(2**40, 0, 1, 16)),
    "too many experts": reshaped(gate_up=(2**17, 2, 0, 16), down=(2**17, 2, 0, 16)),
    "an odd gate_up": reshaped(gate_up=(4, 63, 2, 16)),
    "gate_up in rows": reshaped(gate_up=(256, 2, 16)),
    "down in rows": reshaped(down=(256, 1, 16)),
    "gate_up of another block": reshaped(gate_up=(4, 64, 2, 32)),
    "few scales of gate_up": reshaped(gate_up_scales=(4, 64, 1)),
    "few scales of down": reshaped(down_scales=(4, 32, 1)),
    "scales of down in rows": reshaped(down_scales=(256, 1)),
    "a short bias of gate_up": reshaped(gate_up_bias=(4, 63)),
    "a bias of gate_up for one expert": reshaped(gate_up_bias=(64,)),
    "a short bias of down": reshaped(down_bias=(3, 64)),
    **{f"{inner} activations": of_inner(inner) for inner in (16, 33, 48)},
    "down of another width": reshaped(down=(4, 96, 1, 16), down_scales=(4, 96, 1), down_bias=(4, 96)),
    "down of 48 outputs": reshaped(down=(4, 48, 1, 16), down_scales=(4, 48, 1), down_bias=(4, 48)),
    **{f"{name} as an input": as_input(name) for name in ("gate_up", "gate_up_scales", "down", "down_scales")},
    **{f"{name} as an input": as_input(name) for name in ("gate_up_bias", "down_bias")},
}
