"""Define the operators of `infrs.native` by those of ONNX Runtime, for sessions without infrs's kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from ...recipes.dense_experts import Nodes, Sizes, activate, block_product
from ...recipes.domains import MICROSOFT, NATIVE
from ...recipes.experts import Gate, Routing, operator, routed

_SOFTPLUS_TERMS = 8  # the next term is at most 3e-9 of the sum


def functions(
    nodes: Iterable[onnx.NodeProto], opsets: Mapping[str, int], shapes: Mapping[str, Sequence[int]] | None = None
) -> list[onnx.FunctionProto]:
    """Return a definition of each operator of `infrs.native` in `nodes`. `opsets`: versions by domain.

    shapes: of the initializers; experts with a GELU need them. All experts have the same sizes and attributes.
    """
    used = {node.op_type: node for node in nodes if node.domain == NATIVE}
    imports = [helper.make_opsetid(domain, opsets[domain]) for domain in ("", MICROSOFT)]
    definitions = _DEFINITIONS | {"Experts": lambda name, opsets: _experts_of(used[name], opsets, shapes or {})}
    return [definitions[name](name, imports) for name in sorted(used)]


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def _gated_quick_gelu(name: str, imports: list[onnx.OperatorSetIdProto]) -> onnx.FunctionProto:
    """Define silu(gate) * up, where gate and up are the halves of each row."""
    nodes = [
        helper.make_node("Split", ["x"], ["gate", "up"], axis=-1, num_outputs=2),
        helper.make_node("QuickGelu", ["gate"], ["open"], domain=MICROSOFT, alpha=1.0),
        helper.make_node("Mul", ["open", "up"], ["y"]),
    ]
    return helper.make_function(NATIVE, name, ["x"], ["y"], nodes, imports)


def _matmul_nbits(name: str, imports: list[onnx.OperatorSetIdProto]) -> onnx.FunctionProto:
    """Define MatMulNBits with 16-bit scales by that of ONNX Runtime."""
    inputs = ["x", "values", "scales", "zero_points", "order", "bias"]
    attributes = ["K", "N", "bits", "block_size", "accuracy_level"]
    own = ["input_bits"]  # only infrs's kernel reads it
    product = helper.make_node(name, ["x", "values", "wide", *inputs[3:]], ["y"], domain=MICROSOFT)
    for attribute in attributes:
        product.attribute.append(
            onnx.AttributeProto(name=attribute, ref_attr_name=attribute, type=onnx.AttributeProto.INT)
        )
    nodes = [helper.make_node("Cast", ["scales"], ["wide"], to=onnx.TensorProto.FLOAT), product]
    return helper.make_function(NATIVE, name, inputs, ["y"], nodes, imports, [*attributes, *own])


def _matmul_levels(name: str, imports: list[onnx.OperatorSetIdProto]) -> onnx.FunctionProto:
    """Define a product with weights of 16 levels by one with weights of 8 bits, which stand for the same levels."""
    nodes = Nodes("product")
    values = _levels_in_bytes(nodes, "values", "levels")
    scales = nodes.add("Cast", ["scales"], to=onnx.TensorProto.FLOAT)
    blocks = {"bits": 8, "block_size": 32, "accuracy_level": 4}
    nodes.add("MatMulNBits", ["x", values, scales, "", "", "bias"], "y", domain=MICROSOFT, **blocks)
    for attribute in ("K", "N"):
        nodes.nodes[-1].attribute.append(
            onnx.AttributeProto(name=attribute, ref_attr_name=attribute, type=onnx.AttributeProto.INT)
        )
    inputs = ["x", "values", "scales", "levels", "bias"]
    return helper.make_function(NATIVE, name, inputs, ["y"], nodes.nodes, imports, ["K", "N"])


def _levels_in_bytes(nodes: Nodes, values: str, levels: str) -> str:
    """Return weights of 8 bits, uint8 [..., 32] with zero at 128, for numbers of levels, uint8 [..., 16]."""
    plus_128 = nodes.add("Cast", [nodes.add("Add", [levels, nodes.constant(128.0)])], to=onnx.TensorProto.UINT8)
    low = nodes.add("BitwiseAnd", [values, nodes.constant(np.array(15, np.uint8))])
    high = nodes.add("BitShift", [values, nodes.constant(np.array(4, np.uint8))], direction="RIGHT")
    last = nodes.constant([-1])
    pairs = nodes.add("Concat", [nodes.add("Unsqueeze", [half, last]) for half in (low, high)], axis=-1)
    numbers = nodes.add("Cast", [pairs], to=onnx.TensorProto.INT32)
    bytes_ = nodes.add("Gather", [plus_128, numbers])
    shape = nodes.add("Shape", [values], start=0, end=-1)
    return nodes.add("Reshape", [bytes_, nodes.add("Concat", [shape, last], axis=0)])


def _linear(name: str, imports: list[onnx.OperatorSetIdProto]) -> onnx.FunctionProto:
    """Define a product with weights of 32 or 16 bits, which ONNX Runtime widens at load."""
    nodes = [
        helper.make_node("Cast", ["weight"], ["wide"], to=onnx.TensorProto.FLOAT),
        helper.make_node("FusedMatMul", ["x", "wide"], ["y"], domain=MICROSOFT, transB=1),
    ]
    return helper.make_function(NATIVE, name, ["x", "weight"], ["y"], nodes, imports, ["input_bits"])


_EXPERT_INPUTS = [
    "x",
    "weights",
    "indices",
    "gate_up",
    "gate_up_scales",
    "down",
    "down_scales",
    "gate_up_bias",
    "down_bias",
    "levels",
]


def _experts(node: onnx.NodeProto, imports: list[onnx.OperatorSetIdProto]) -> onnx.FunctionProto:
    """Define a mixture of quantised experts by ONNX Runtime's QMoE."""
    given, nodes, operands = _attributes(node), Nodes("experts"), []
    for part in ("gate_up", "down"):
        values = _levels_in_bytes(nodes, part, "levels") if _has_levels(node) else part
        values = nodes.add("Reshape", [values, nodes.constant([0, 0, -1])])
        operands += [values, nodes.add("Cast", [f"{part}_scales"], to=onnx.TensorProto.FLOAT), f"{part}_bias"]
    bits = 8 if _has_levels(node) else given["bits"]
    qmoe = operator("QMoE", operands, {"accuracy_level": 4, "expert_weight_bits": bits})
    attributes = {
        "block_size": ("block_size", onnx.AttributeProto.INT),
        "k": ("k", onnx.AttributeProto.INT),
        "alpha": ("activation_alpha", onnx.AttributeProto.FLOAT),
        "beta": ("activation_beta", onnx.AttributeProto.FLOAT),
        "limit": ("swiglu_limit", onnx.AttributeProto.FLOAT),
    }
    for own, (theirs, kind) in attributes.items():
        qmoe.attribute.append(onnx.AttributeProto(name=theirs, ref_attr_name=own, type=kind))
    nodes.nodes += routed("experts", Routing("x", "weights", "indices"), "gate_up", qmoe, "y")
    return helper.make_function(NATIVE, node.op_type, _EXPERT_INPUTS, ["y"], nodes.nodes, imports, list(given))


def _has_levels(node: onnx.NodeProto) -> bool:
    return len(node.input) == len(_EXPERT_INPUTS)


def _short_convolution(name: str, imports: list[onnx.OperatorSetIdProto]) -> onnx.FunctionProto:
    """Define a convolution with a state that an idle row keeps."""
    inputs = ["x", "weight", "bias", "past", "active"]
    node = helper.make_node("CausalConvWithState", inputs[:4], ["y", "moved"], domain=MICROSOFT, channels_last=1)
    node.attribute.append(
        onnx.AttributeProto(name="activation", ref_attr_name="activation", type=onnx.AttributeProto.STRING)
    )
    nodes = [
        node,
        helper.make_node("Cast", ["active"], ["moves"], to=onnx.TensorProto.BOOL),
        helper.make_node("Where", ["moves", "moved", "past"], ["present"]),
    ]
    return helper.make_function(NATIVE, name, inputs, ["y", "present"], nodes, imports, ["activation"])


def _softplus(name: str, imports: list[onnx.OperatorSetIdProto]) -> onnx.FunctionProto:
    """Define log(1 + e**x) by operators that round each number alike, wherever it is in its tensor.

    ONNX Runtime's Softplus and Log do not. With t = e**-|x| and z = t / (2 + t), which is at most a third,
    log(1 + t) = 2 artanh(z) = 2 z (1 + z**2 / 3 + z**4 / 5 + ...). The result is max(x, 0) more.
    """
    terms = [2 / (2 * power + 1) for power in reversed(range(_SOFTPLUS_TERMS))]
    constants = {"two": 2.0} | {f"term{place}": term for place, term in enumerate(terms)}
    nodes = [
        helper.make_node("Constant", [], [key], value=helper.make_tensor(key, onnx.TensorProto.FLOAT, [], [value]))
        for key, value in constants.items()
    ]
    nodes += [
        helper.make_node("Relu", ["x"], ["positive"]),
        helper.make_node("Abs", ["x"], ["size"]),
        helper.make_node("Neg", ["size"], ["negative"]),
        helper.make_node("Exp", ["negative"], ["t"]),
        helper.make_node("Add", ["t", "two"], ["divisor"]),
        helper.make_node("Div", ["t", "divisor"], ["z"]),
        helper.make_node("Mul", ["z", "z"], ["square"]),
    ]
    total = "term0"
    for place in range(1, len(terms)):
        nodes.append(helper.make_node("Mul", [total, "square"], [f"product{place}"]))
        nodes.append(helper.make_node("Add", [f"product{place}", f"term{place}"], [f"sum{place}"]))
        total = f"sum{place}"
    nodes.append(helper.make_node("Mul", [total, "z"], ["log"]))
    nodes.append(helper.make_node("Add", ["log", "positive"], ["y"]))
    return helper.make_function(NATIVE, name, ["x"], ["y"], nodes, imports)


def _gelu_experts(
    node: onnx.NodeProto, imports: list[onnx.OperatorSetIdProto], shapes: Mapping[str, Sequence[int]]
) -> onnx.FunctionProto:
    """Define a mixture with a gate that QMoE lacks by two products with the matrices of all experts."""
    given, nodes = _attributes(node), Nodes("experts")
    experts, doubled, blocks, stored = shapes[node.input[3]]
    bits, stored = (8, 32) if _has_levels(node) else (given["bits"], stored)
    sizes = Sizes(experts, doubled // 2, shapes[node.input[5]][1])
    routing, x, y = Routing("x", "weights", "indices"), "x", ""
    for part, outputs in (("gate_up", experts * doubled), ("down", sizes.hidden)):
        values = _levels_in_bytes(nodes, part, "levels") if _has_levels(node) else part
        scales = nodes.add("Cast", [f"{part}_scales"], to=onnx.TensorProto.FLOAT)
        if part == "down":
            blocks, y = experts * shapes[node.input[5]][2], "y"
            values, scales = (
                nodes.add("Transpose", [values], perm=[1, 0, 2, 3]),
                nodes.add("Transpose", [scales], perm=[1, 0, 2]),
            )
        values = nodes.add("Reshape", [values, nodes.constant([outputs, blocks, stored])])
        scales = nodes.add("Reshape", [scales, nodes.constant([outputs, blocks])])
        x = block_product(nodes, [x, values, scales], y, shape=(outputs, blocks * 32), bits=bits)
        if part == "gate_up":
            x = activate(nodes, x, routing, sizes, Gate(given["alpha"], given["beta"], cubic=given["cubic"]))
    return helper.make_function(NATIVE, node.op_type, _EXPERT_INPUTS, ["y"], nodes.nodes, imports, list(given))


def _experts_of(
    node: onnx.NodeProto, imports: list[onnx.OperatorSetIdProto], shapes: Mapping[str, Sequence[int]]
) -> onnx.FunctionProto:
    if _attributes(node).get("cubic"):
        return _gelu_experts(node, imports, shapes)
    return _experts(node, imports)


_DEFINITIONS: dict[str, Callable[[str, list[onnx.OperatorSetIdProto]], onnx.FunctionProto]] = {
    "GatedQuickGelu": _gated_quick_gelu,
    "Linear": _linear,
    "MatMulLevels": _matmul_levels,
    "MatMulNBits": _matmul_nbits,
    "ShortConvolution": _short_convolution,
    "Softplus": _softplus,
}
