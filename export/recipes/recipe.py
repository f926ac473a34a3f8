"""The recipes: how each dtype stores weights. A recipe is a `Lowering`; the manifest records its options."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

import infrs
from infrs.bundle.manifest import Dtype, Recipe

from .dense_experts import Nodes, activate, block_product, dense_matrices, sizes_of
from .domains import MICROSOFT, NATIVE
from .experts import ExpertWeights, Routing, operator, routed, swiglu
from .floats import FLOAT32, HALF_DTYPES, FloatLowering
from .gptq import SHRINKAGE
from .levels import EVEN, NONLINEAR, Levels
from .lowering import Lowered, Lowering, Tensor, Weight, expert_biases
from .quantize import Quantized, quantize


@dataclass(frozen=True)
class QuantizedLowering:
    """A lowering to blocks of `block_size` with one float16 scale each, computed in 8-bit integers (accuracy level 4).

    bits: of all products, except roles in `finer`, which have 8. A tied lm_head and embedding share bytes, so an
    embedding has the bits of lm_head. levels: of 4 bits, instead of even ones.
    """

    bits: int
    block_size: int
    finer: frozenset[str] = field(default_factory=frozenset)
    levels: Levels | None = None

    def linear(self, weight: Weight, x: str, y: str) -> Lowered:
        """Return a `MatMulLevels`, or a `MatMulNBits`: infrs's own for 16-bit scales, otherwise ONNX Runtime's."""
        bits = 8 if weight.role in self.finer else self.bits
        if self.levels is not None and bits == 4 and weight.array.shape[1] % self.block_size == 0:
            quantized = quantize(weight.array, self.levels, self.block_size, weight.moments)
            if quantized.scales.dtype == np.float16:
                return _with_levels(weight, quantized, x, y)
        quantized = quantize(weight.array, EVEN[bits], self.block_size, weight.moments)
        tensors = _tensors(weight, quantized, quantized.values)
        names = [x, *(tensor.name for tensor in tensors)]
        if weight.bias is not None:
            tensors.append(Tensor(f"{weight.name}.bias", weight.bias))
            names += ["", "", tensors[-1].name]
        outputs, inputs = weight.array.shape
        node = helper.make_node(
            "MatMulNBits",
            names,
            [y],
            name=f"{weight.name}/MatMulNBits",
            domain=MICROSOFT,
            K=inputs,
            N=outputs,
            bits=bits,
            block_size=self.block_size,
            accuracy_level=4,  # without it the kernel converts all weights to float32 in every call
        )
        if quantized.scales.dtype == np.float16:
            node.domain = NATIVE
            # ONNX Runtime refuses this attribute in its own domain. There the node's name decides (library.cpp).
            node.attribute.append(helper.make_attribute("input_bits", self._input_bits(weight, bits)))
        return Lowered([node], tensors)

    @staticmethod
    def _input_bits(weight: Weight, bits: int) -> int:
        """Return the minimum bits of activations in infrs's kernels; with AVX2, 8-bit weights have 16."""
        return 16 if bits == 8 and weight.role == "lm_head" else 8

    def embedding(self, weight: Weight, ids: str, y: str) -> Lowered:
        """Return a `GatherBlockQuantized` with its scales cast; a plain `Gather` if rows are not whole blocks."""
        outputs, inputs = weight.array.shape
        if inputs % self.block_size:
            return FloatLowering().embedding(weight, ids, y)
        bits = 8 if "lm_head" in self.finer else self.bits
        quantized = quantize(weight.array, EVEN[bits], self.block_size)
        tensors = _tensors(weight, quantized, quantized.values.reshape(outputs, -1), kind="rows")
        scales = f"{weight.name}/scales"
        node = helper.make_node(
            "GatherBlockQuantized",
            [tensors[0].name, ids, scales],
            [y],
            name=f"{weight.name}/GatherBlockQuantized",
            domain=MICROSOFT,
            bits=bits,
            block_size=self.block_size,
            gather_axis=0,
            quantize_axis=1,
        )
        return Lowered([_cast(tensors[1].name, scales, f"{weight.name}/Cast"), node], tensors)

    def experts(self, weights: ExpertWeights, routing: Routing, y: str) -> Lowered:
        """Return infrs's `Experts`; where float16 scales would lose precision, ONNX Runtime's operators."""
        biases, names = expert_biases(weights)
        attributes = {"bits": self.bits, "block_size": self.block_size}
        for levels in filter(None, (self.levels, EVEN[self.bits])):
            values, scales = self._blocks_of_experts(weights, levels)
            if all(scale.array.dtype == np.float16 for scale in scales):
                table = [] if levels.is_even else [_table(levels)]
                inputs = [routing.x, routing.weights, routing.indices]
                inputs += [values[0].name, scales[0].name, values[1].name, scales[1].name, *names]
                inputs += [tensor.name for tensor in table]
                node = helper.make_node("Experts", inputs, [y], name=f"{weights.name}/Experts", domain=NATIVE)
                given = attributes | weights.attributes
                node.attribute.extend(helper.make_attribute(*item) for item in given.items())
                return Lowered([node], [*values, *scales, *biases, *table])
        if weights.gate.cubic:
            return self._dense(weights, routing, y)
        values = [Tensor(each.name, each.array.reshape(*each.array.shape[:2], -1)) for each in values]
        scales = [Tensor(each.name, each.array.astype(np.float32)) for each in scales]
        parts = [values[0].name, scales[0].name, names[0], values[1].name, scales[1].name, names[1]]
        given = {"expert_weight_bits": self.bits, "block_size": self.block_size, "accuracy_level": 4}
        qmoe = operator("QMoE", parts, given | swiglu(weights.gate, weights.top_k))
        nodes = routed(weights.name, routing, values[0].name, qmoe, y)
        return Lowered(nodes, [*values, *scales, *biases])

    def _blocks_of_experts(self, weights: ExpertWeights, levels: Levels) -> tuple[list[Tensor], list[Tensor]]:
        """Return values and scales of gate_up and down."""
        values, scales = [], []
        for part, array in (("gate_up", weights.gate_up), ("down", weights.down)):
            count, outputs, _ = array.shape
            quantized = quantize(array.reshape(count * outputs, -1), levels, self.block_size)
            base = f"{weights.source}.{part}.blocks{self.bits}"
            values.append(Tensor(base, quantized.values.reshape(count, outputs, *quantized.values.shape[1:])))
            scales.append(Tensor(f"{base}.scales", quantized.scales.reshape(count, outputs, -1)))
        return values, scales

    def _dense(self, weights: ExpertWeights, routing: Routing, y: str) -> Lowered:
        nodes, tensors, x, target = Nodes(weights.name), [], routing.x, ""
        for part, array in zip(("gate_up", "down"), dense_matrices(weights), strict=True):
            quantized = quantize(array, EVEN[self.bits], self.block_size)
            base = f"{weights.source}.{part}.blocks{self.bits}"
            tensors += [Tensor(base, quantized.values), Tensor(f"{base}.scales", quantized.scales.astype(np.float32))]
            names = [x, base, f"{base}.scales"]
            x = block_product(nodes, names, target, shape=(array.shape[0], array.shape[1]), bits=self.bits)
            if part == "gate_up":
                x, target = activate(nodes, x, routing, sizes_of(weights), weights.gate), y
        return Lowered(nodes.nodes, tensors)


_QUANTIZED = {
    "int8": QuantizedLowering(bits=8, block_size=32),
    "int4": QuantizedLowering(bits=4, block_size=32, finer=frozenset({"lm_head"}), levels=NONLINEAR),
}
BLOCK_DTYPES = frozenset(_QUANTIZED)
NARROW_STATES = BLOCK_DTYPES | {"bfloat16"}  # keys and values have 16 bits, more precise than weights and activations
CALIBRATED_DTYPES = frozenset({"int4"})  # rounded with the measured inputs


def lowering(dtype: Dtype, *, rounds_inputs: bool = True) -> Lowering:
    """Return the `Lowering` that stores weights as `dtype`.

    rounds_inputs: kernels may round activations to bfloat16 next to such weights, as PyTorch's bfloat16 does.
    """
    if dtype in _QUANTIZED:
        return _QUANTIZED[dtype]
    input_bits = 16 if rounds_inputs and dtype == "bfloat16" else 32
    return FloatLowering(HALF_DTYPES.get(dtype, FLOAT32), input_bits)


def recipe(dtype: Dtype) -> Recipe:
    """Return the name, options and hash of the recipe of `dtype`; the hash covers the exporter's version."""
    options: dict[str, str | int | float | bool] = {}
    if dtype in _QUANTIZED:
        chosen = _QUANTIZED[dtype]
        levels = EVEN[chosen.bits] if chosen.levels is None else chosen.levels
        options = {
            "bits": chosen.bits,
            "block_size": chosen.block_size,
            "levels": levels.name,
            "finer": " ".join(sorted(chosen.finer)),
            "finer_bits": 8,
            "scale_bits": 16,
            "accuracy_level": 4,
            "calibrated": dtype in CALIBRATED_DTYPES,
        }
    if dtype in CALIBRATED_DTYPES:
        options["feedback"] = SHRINKAGE
    if dtype == "bfloat16":
        options = {"input_bits": 16}
    name = "blocks" if dtype in _QUANTIZED else "floats"
    text = json.dumps([name, dtype, options, infrs.__version__], sort_keys=True)
    return Recipe(name=name, options=options, hash=hashlib.sha256(text.encode()).hexdigest())


def stored_bytes(dtype: Dtype, num_weights: int) -> int:
    """Return an upper estimate of the bytes of `num_weights` weights in a bundle."""
    per_weight = {"float32": 4.0, "int8": 1.13, "int4": 1.13}.get(dtype, 2.0)
    return int(num_weights * per_weight)


def _cast(source: str, target: str, name: str) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], name=name, to=onnx.TensorProto.FLOAT)


def _tensors(weight: Weight, quantized: Quantized, values: NDArray[np.uint8], kind: str = "blocks") -> list[Tensor]:
    """Return the tensors, named by source and layout. Tied weights share a tensor, or only bytes if layouts differ."""
    base = f"{weight.source}.{kind}{quantized.levels.bits}"
    return [Tensor(base, values), Tensor(f"{base}.scales", quantized.scales)]


def _table(levels: Levels) -> Tensor:
    return Tensor(f"levels.{levels.name}", levels.values)


def _with_levels(weight: Weight, quantized: Quantized, x: str, y: str) -> Lowered:
    """Return infrs's product with 4-bit weights that stand for levels."""
    tensors = [*_tensors(weight, quantized, quantized.values), _table(quantized.levels)]
    if weight.bias is not None:
        tensors.append(Tensor(f"{weight.name}.bias", weight.bias))
    outputs, inputs = weight.array.shape
    names = [x, *(tensor.name for tensor in tensors)]
    name = f"{weight.name}/MatMulLevels"
    return Lowered(
        [helper.make_node("MatMulLevels", names, [y], name=name, domain=NATIVE, K=inputs, N=outputs)], tensors
    )
