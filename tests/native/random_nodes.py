"""Random nodes: valid ones of many sizes, most of them with some attributes, shapes, types or values replaced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import attention_graph
import convolution_graph
import experts_graph
import linear_graph
import numpy as np
import onnx
from crafted import HUGE, Case
from infrs_export.graph.fusions.functions import functions
from kernel_graphs import FLOAT, graph_of
from onnx import helper, numpy_helper

from infrs.bundle.states import DTYPE_BYTES
from infrs.native.options import AUTO, AVX2, PRECISE, StoredDtype

Feeds = dict[str, np.ndarray]

SIZES = [0, 1, 2, 3, 7, 8, 16, 32, 64, 65]
FAR = [-(2**31), -2, -1, 0, 1, 2, 3, 15, 16, 63, 64, 2**31 - 1]
SPECIAL = [0.0, -0.0, 1e-45, -1e-39, 3e38, -3e38, float("inf"), -float("inf"), float("nan")]
TYPES = [np.float32, np.float16, np.float64, np.int32, np.int64, np.uint8, np.bool_]
INTEGERS = [0, 1, -1, 2, 3, 4, 8, 9, 32, 64, 96, 2**31 - 1, 2**31, 2**32, 2**58, HUGE, 2**62, 2**63 - 1, -(2**63)]
FLAGS = [-1, 0, 1, 2]
NUMBERS = [*SPECIAL, -1.0, 1e-40, 1e38, 7.0]
TEXTS = ["NONE", "PER_TENSOR", "", "x" * 100]
ATTRIBUTES: dict[str, dict[str, list[Any]]] = {
    "MatMulNBits": dict.fromkeys(("N", "K", "bits", "block_size"), INTEGERS)
    | {"accuracy_level": [0, 1, 4, -1], "weight_prepacked": FLAGS, "input_bits": [8, 16, 0, HUGE]},
    "MatMulLevels": dict.fromkeys(("N", "K"), INTEGERS),
    "GroupQueryAttention": dict.fromkeys(("num_heads", "kv_num_heads", "local_window_size"), INTEGERS)
    | dict.fromkeys(("do_rotary", "rotary_interleaved", "smooth_softmax", "qk_output", "causal"), FLAGS)
    | dict.fromkeys(("scale", "softcap", "qk_norm_epsilon", "q_norm_epsilon", "k_norm_epsilon"), NUMBERS)
    | dict.fromkeys(("k_quant_type", "v_quant_type"), TEXTS)
    | {"kv_cache_bit_width": [0, 4, 8, HUGE], "sliding_window_cache": FLAGS},
    "SkipSimplifiedLayerNormalization": {"epsilon": NUMBERS},
    "GatedQuickGelu": {},
    "Linear": {"input_bits": [16, 32, 8, HUGE]},
    "ShortConvolution": {"activation": [*TEXTS, "silu", "none"]},
    "Experts": dict.fromkeys(("bits", "block_size", "k"), INTEGERS)
    | dict.fromkeys(("alpha", "beta", "limit", "cubic"), NUMBERS),
}


@dataclass
class Draft:
    """A graph of one node and its inputs, before they become a case."""

    model: onnx.ModelProto
    feeds: Feeds = field(default_factory=dict)
    kv_dtype: StoredDtype = "float32"

    @property
    def node(self) -> onnx.NodeProto:
        return self.model.graph.node[0]


def normal(chance: Random, *shape: int) -> np.ndarray:
    return np.random.default_rng(chance.getrandbits(32)).standard_normal(shape).astype(np.float32)


def attention(chance: Random) -> Draft:
    dim, kv_heads = chance.choice([8, 16, 24, 40, 64, 128]), chance.choice([1, 2, 3])
    form = attention_graph.Form(
        heads=kv_heads * chance.choice([1, 2, 3, 5, 50 if dim == 8 else 1]),
        kv_heads=kv_heads,
        dim=dim,
        rotary=chance.choice([0, dim // 4, dim // 2]),
        interleaved=chance.random() < 0.5,
        softcap=chance.choice([0.0, 0.0, 5.0]),
        window=chance.choice([0, 0, 1, 7, 300]),
        packed=chance.random() < 0.5,
        sinks=chance.random() < 0.3,
    )
    rows, tokens, capacity = (
        chance.choice([1, 1, 2, 3]),
        chance.choice([1, 1, 2, 7, 50]),
        chance.choice([8, 64, 304, 600]),
    )
    tokens, kv_dtype = min(tokens, capacity), chance.choice([*DTYPE_BYTES])
    ends = [chance.randint(tokens, capacity) for _ in range(rows)]
    query, key, value = form.widths
    slots = attention_graph.num_slots(capacity, dim, kv_dtype)
    feeds = {name: normal(chance, rows, kv_heads, slots, dim) for name in ("past_key", "past_value")}
    feeds["query"] = normal(chance, rows, tokens, query + key + value if form.packed else query)
    if not form.packed:
        feeds |= {name: normal(chance, rows, tokens, key) for name in ("key", "value")}
    feeds |= {"lengths": np.array(ends, np.int32) - 1, "total": np.array(max(ends), np.int32)}
    return Draft(attention_graph.model(form), feeds, kv_dtype)


def product(chance: Random) -> Draft:
    inputs, outputs, bits = chance.choice([32, 64, 96, 256]), chance.choice([1, 5, 16, 17, 40]), chance.choice([4, 8])
    blocks, is_own = inputs // 32, chance.random() < 0.5
    scales = normal(chance, outputs, blocks)
    given: dict[str, Any] = {
        "x": (FLOAT, ["rows", "width"]),
        "values": np.frombuffer(chance.randbytes(outputs * inputs * bits // 8), np.uint8).reshape(outputs, blocks, -1),
        "scales": scales.astype(np.float16) if is_own else scales,
    }
    if chance.random() < 0.3:
        given |= {"zero_points": None, "g_idx": None, "bias": normal(chance, outputs)}
    attributes = {"N": outputs, "K": inputs, "bits": bits, "block_size": 32}
    model = graph_of("MatMulNBits", given, {"y": ["rows", "outputs"]}, attributes)
    model.graph.node[0].name = chance.choice(["", "lm_head/MatMulNBits"])
    draft = Draft(model, {"x": normal(chance, chance.choice([1, 1, 2, 5, 13, 50, 100]), inputs)})
    return in_own_domain(draft) if is_own else draft


def levels(chance: Random) -> Draft:
    inputs, outputs = chance.choice([32, 64, 96, 256]), chance.choice([1, 5, 16, 17, 40])
    given: dict[str, Any] = {
        "x": (FLOAT, ["rows", "width"]),
        "values": np.frombuffer(chance.randbytes(outputs * inputs // 2), np.uint8).reshape(outputs, inputs // 32, -1),
        "scales": normal(chance, outputs, inputs // 32).astype(np.float16),
        "levels": np.array(chance.choice([experts_graph.NARROW, experts_graph.WIDE]), np.float32),
    }
    if chance.random() < 0.3:
        given["bias"] = normal(chance, outputs)
    model = graph_of("MatMulLevels", given, {"y": ["rows", "outputs"]}, {"N": outputs, "K": inputs})
    return in_own_domain(Draft(model, {"x": normal(chance, chance.choice([1, 1, 2, 5, 13, 50, 100]), inputs)}))


def linear(chance: Random) -> Draft:
    outputs, inputs = chance.choice([1, 2, 31, 32, 33, 70]), chance.choice([1, 2, 7, 32, 65])
    weights = normal(chance, outputs, inputs).astype(chance.choice(list(linear_graph.DTYPES.values())))
    model = linear_graph.model(weights, chance.choice([16, 32]))
    return Draft(model, {"x": normal(chance, 1, chance.choice([1, 2, 5, 13, 50, 100]), inputs)})


def norm(chance: Random) -> Draft:
    width, rows = chance.choice([1, 7, 8, 9, 64, 100]), chance.choice([1, 2, 50])
    given: dict[str, Any] = {name: (FLOAT, ["rows", "width"]) for name in ("x", "skip")}
    model = graph_of(
        "SkipSimplifiedLayerNormalization", given | {"gamma": normal(chance, width)}, {"y": ["rows", "width"]}, {}
    )
    if chance.random() < 0.5:
        model.graph.node[0].output.extend(["", "", "sum"])
        model.graph.output.append(helper.make_tensor_value_info("sum", FLOAT, ["rows", "width"]))
    return Draft(model, {name: normal(chance, rows, width) for name in ("x", "skip")})


def gate(chance: Random) -> Draft:
    model = graph_of("GatedQuickGelu", {"x": (FLOAT, ["rows", "width"])}, {"y": ["rows", "half"]}, {})
    x = normal(chance, chance.choice([1, 2, 50]), 2 * chance.choice([1, 7, 8, 9, 64]))
    return in_own_domain(Draft(model, {"x": x}))


def experts(chance: Random) -> Draft:
    count = chance.choice([1, 2, 5, 40])
    form = experts_graph.Form(
        bits=chance.choice([4, 8]),
        experts=count,
        chosen=chance.choice([1, min(2, count), count]),
        width=chance.choice([32, 64, 96]),
        inner=chance.choice([32, 64, 96]),
        biases=chance.random() < 0.5,
        alpha=chance.choice([1.0, 1.7]),
        beta=chance.choice([0.0, 1.0]),
        limit=chance.choice([0.0, 7.0]),
    )
    if form.bits == 4 and chance.random() < 0.5:
        form = replace(form, levels=chance.choice([experts_graph.NARROW, experts_graph.WIDE]))
    if chance.random() < 0.3:
        form = replace(form, biases=False, limit=0.0, cubic=0.044715)
    feeds = experts_graph.drawn(form, chance.choice([1, 2, 7, 60]), chance.getrandbits(32))
    return in_own_domain(Draft(experts_graph.model(form), feeds))


def convolution(chance: Random) -> Draft:
    form = convolution_graph.Form(
        channels=chance.choice([1, 7, 8, 48, 577]),
        width=chance.choice([2, 4, 9]),
        activation=chance.choice(["none", "silu"]),
        bias=chance.random() < 0.5,
    )
    feeds = convolution_graph.drawn(form, chance.choice([1, 2, 5]), chance.choice([1, 2, 50]), chance.getrandbits(32))
    return in_own_domain(Draft(convolution_graph.model(form), feeds))


def in_own_domain(draft: Draft) -> Draft:
    draft.node.domain = draft.model.opset_import[1].domain = "infrs.native"
    draft.model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    versions = {"": 21, "com.microsoft": 1, "infrs.native": 1}
    shapes = {item.name: item.dims for item in draft.model.graph.initializer}
    draft.model.functions.extend(functions([draft.node], versions, shapes))
    return draft


def change_attribute(draft: Draft, chance: Random) -> None:
    if not (known := ATTRIBUTES[draft.node.op_type]):
        return
    name = chance.choice(sorted(known))
    value = chance.choice(known[name] if chance.random() < 0.9 else [*INTEGERS, *NUMBERS, *TEXTS])
    kept = [attribute for attribute in draft.node.attribute if attribute.name != name]
    del draft.node.attribute[:]
    draft.node.attribute.extend([*kept, helper.make_attribute(name, value)])


def change_array(draft: Draft, chance: Random, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change an input or a constant, and what the graph declares of it."""
    constants = list(draft.model.graph.initializer)
    place = chance.randrange(len(draft.feeds) + len(constants))
    if place >= len(draft.feeds):
        tensor = constants[place - len(draft.feeds)]
        tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), tensor.name))
        return
    name = list(draft.feeds)[place]
    draft.feeds[name] = array = change(draft.feeds[name])
    for value in draft.model.graph.input:
        if value.name == name:
            shape: list[Any] = [f"{name}{axis}" for axis in range(array.ndim)]
            declared = value.type.tensor_type.shape.dim
            if name.startswith("past") and len(declared) == array.ndim == 4 and chance.random() < 0.5:
                shape[3] = declared[3].dim_value or shape[3]
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            value.CopyFrom(helper.make_tensor_value_info(name, kind, shape))


def change_shape(draft: Draft, chance: Random) -> None:
    def change(array: np.ndarray) -> np.ndarray:
        shape = list(array.shape)
        axis = chance.randrange(len(shape)) if shape else 0
        how = chance.random()
        if not shape or how < 0.15:
            shape.insert(axis, chance.choice([0, 1, 2]))
        elif how < 0.3:
            del shape[axis]
        else:
            shape[axis] = chance.choice([*SIZES, shape[axis] + 1, max(shape[axis] - 1, 0)])
        return np.resize(array, shape)

    change_array(draft, chance, change)


def change_type(draft: Draft, chance: Random) -> None:
    with np.errstate(all="ignore"):
        change_array(draft, chance, lambda array: array.astype(chance.choice(TYPES)))


def change_values(draft: Draft, chance: Random) -> None:
    def change(array: np.ndarray) -> np.ndarray:
        changed = array.copy()
        values: list[float] = SPECIAL if array.dtype.kind == "f" else FAR
        for _ in range(chance.choice([1, 3, array.size])):
            if array.size:
                with np.errstate(all="ignore"):
                    changed.flat[chance.randrange(array.size)] = np.array(chance.choice(values)).astype(array.dtype)
        return changed

    change_array(draft, chance, change)


def omit(draft: Draft, chance: Random) -> None:
    """Omit an input or output of the node; the graph keeps the input."""
    names = chance.choice([draft.node.input, draft.node.output])
    place = chance.randrange(len(names))
    kept = [value for value in draft.model.graph.output if value.name != names[place] or names is draft.node.input]
    names[place] = ""
    del draft.model.graph.output[:]
    draft.model.graph.output.extend(kept)


MAKERS = [attention, attention, product, product, linear, experts, experts, norm, gate, convolution]
CHANGES = [change_attribute, change_attribute, change_shape, change_shape, change_values, change_type, omit]


def random_case(seed: int) -> Case:
    """Return a node of a random operator, with up to three changes."""
    chance = Random(seed)
    draft = chance.choice(MAKERS)(chance)
    # The graph declares no other shapes than the kernels need: ONNX Runtime would check them before a kernel runs.
    for value in [*draft.model.graph.input, *draft.model.graph.output]:
        for axis, size in enumerate(value.type.tensor_type.shape.dim):
            if not (value.name.startswith("past") and axis == 3):
                size.dim_param = f"{value.name}{axis}"
    for _ in range(chance.choice([0, 1, 1, 2, 3])):
        chance.choice(CHANGES)(draft, chance)
    return Case(
        lambda: draft.model,
        draft.feeds,
        kernels=chance.choice([AUTO, AUTO, AVX2, PRECISE]),
        kv_dtype=draft.kv_dtype,
        in_place=chance.random() < 0.5,
    )
