"""The quantiser: error bounds, layout, and kernels that give a row the same bits whatever its batch."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from infrs_export.graph.assemble import IR_VERSION, OPSETS
from infrs_export.graph.fusions.functions import functions
from infrs_export.recipes.levels import EVEN, NONLINEAR, Levels
from infrs_export.recipes.lowering import Lowered, Weight
from infrs_export.recipes.quantize import dequantize, quantize
from infrs_export.recipes.recipe import QuantizedLowering, lowering
from onnx import TensorProto, helper, numpy_helper

from infrs.bundle.manifest import Dtype

EVERY = pytest.mark.parametrize("levels", [EVEN[4], EVEN[8], NONLINEAR], ids=["4 bits", "8 bits", "nonlinear"])
MATRICES = arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.integers(1, 100)),
    elements=st.floats(-1e4, 1e4, width=32, allow_subnormal=False),
)


def random_weight(outputs: int, inputs: int, name: str = "layer.weight") -> Weight:
    array = np.random.default_rng(outputs * inputs).standard_normal((outputs, inputs)).astype(np.float32) * 0.05
    return Weight(name, f"{name}.source", array)


def session(lowered: Lowered, x: str, kind: int, shape: list[Any]) -> ort.InferenceSession:
    inputs = [helper.make_tensor_value_info(x, kind, shape)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    tensors = {tensor.name: numpy_helper.from_array(tensor.array, tensor.name) for tensor in lowered.tensors}
    graph = helper.make_graph(lowered.nodes, "main", inputs, outputs, list(tensors.values()))
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    model: onnx.ModelProto = helper.make_model(
        graph, opset_imports=opsets, functions=functions(lowered.nodes, OPSETS), ir_version=IR_VERSION
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@EVERY
@given(weight=MATRICES)
@settings(max_examples=60, deadline=None)
def test_error_is_bounded_by_the_largest_weight_of_the_block(levels: Levels, weight: np.ndarray) -> None:
    block = 32
    restored = dequantize(quantize(weight, levels, block), weight.shape[1])
    values = levels.values / np.abs(levels.values[0])
    step = max(np.diff(values).max() / 2, 1 - values[-1])
    for start in range(0, weight.shape[1], block):
        piece, back = weight[:, start : start + block], restored[:, start : start + block]
        largest = np.abs(piece).max(-1, keepdims=True)
        # Half a step for what rounds, more for the sign that lacks the outermost level; the search may only lower the
        # squared error below that of this bound.
        bound = np.sqrt(np.square(largest * step).repeat(piece.shape[1], -1).sum(-1))
        assert (np.sqrt(np.square(piece - back).sum(-1)) <= bound * 1.001 + 1e-30).all()


@EVERY
def test_representable_weights_come_back_exactly(levels: Levels) -> None:
    rng = np.random.default_rng(0)
    chosen = rng.choice(levels.values, (8, 64))
    chosen[:, 0::32] = levels.values[0]  # every block uses its outermost level
    weight = chosen * np.float32(2.0**-7)
    assert np.array_equal(dequantize(quantize(weight, levels, 32), 64), weight)


@EVERY
def test_zeros_partial_blocks_and_input_stay_unchanged(levels: Levels) -> None:
    weight = np.zeros((3, 40), np.float32)
    weight[1, 39] = 1.5
    before = weight.copy()
    quantized = quantize(weight, levels, 32)
    assert quantized.values.shape == (3, 2, 32 * levels.bits // 8)
    assert np.isfinite(quantized.scales).all()
    np.testing.assert_allclose(dequantize(quantized, 40), weight, rtol=1e-3)  # scales have 16 bits
    assert np.array_equal(weight, before)


@EVERY
def test_scales_take_16_bits_where_those_hold_them(levels: Levels) -> None:
    array = random_weight(8, 64).array
    assert quantize(array, levels, 32).scales.dtype == np.float16
    for factor in (1e-5, 1e8):  # below what 16 bits hold at full precision, and above what they hold at all
        scaled = array.copy()
        scaled[3, 32:] *= np.float32(factor)
        quantized = quantize(scaled, levels, 32)
        assert quantized.scales.dtype == np.float32
        step = np.abs(scaled).reshape(8, 2, 32).max(-1) / (1 << (levels.bits - 1))
        error = np.abs(dequantize(quantized, 64) - scaled).reshape(8, 2, 32).max(-1)
        assert (error <= 1.2 * step).all()


def moments_of(x: np.ndarray, size: int) -> np.ndarray:
    """Of the inputs [T, K], in segments of `size`."""
    segments = x.reshape(len(x), -1, size).transpose(1, 0, 2)
    moments: np.ndarray = segments.transpose(0, 2, 1) @ segments / np.float32(len(x))
    return moments


@pytest.mark.parametrize(("alike", "least"), [(0.0, 0.9), (1.0, 0.6)])
def test_moments_lower_the_error_of_the_product(alike: float, least: float) -> None:
    """Of inputs as unequal as a model's are, and more so if they are alike; measured on others of the kind."""
    rng = np.random.default_rng(3)
    weight = random_weight(64, 256).array
    mixing = np.eye(256) + alike * rng.standard_normal((256, 16)) @ rng.standard_normal((16, 256)) / 8
    mixing *= np.exp(rng.standard_normal(256))
    measured, x = ((rng.standard_normal((2048, 256)) @ mixing).astype(np.float32) for _ in range(2))
    errors = [
        float(np.square(x @ (dequantize(quantize(weight, NONLINEAR, 32, moments), 256) - weight).T).sum())
        for moments in (None, moments_of(measured, 128))
    ]
    assert errors[1] < least * errors[0]


@EVERY
@pytest.mark.parametrize("inputs", [96, 40])
def test_uncorrelated_inputs_do_not_compensate(levels: Levels, inputs: int) -> None:
    weight = random_weight(16, inputs).array
    alike = np.stack([4 * np.eye(64, dtype=np.float32)] * -(-inputs // 64))
    plain, with_moments = (quantize(weight, levels, 32, moments) for moments in (None, alike))
    assert np.array_equal(plain.values, with_moments.values)
    assert np.array_equal(plain.scales, with_moments.scales)


@EVERY
def test_identical_inputs_are_quantised(levels: Levels) -> None:
    weight = random_weight(16, 64).array
    for size in (1e-12, 1.0, 1e12):
        quantized = quantize(weight, levels, 32, np.full((1, 64, 64), size, np.float32))
        assert np.abs(dequantize(quantized, 64) - weight).max() < 0.3 * np.abs(weight).max()


def test_scales_beyond_16_bits_stay_in_32_with_moments_too() -> None:
    array = random_weight(8, 64).array
    array[3, 32:] *= np.float32(1e8)
    quantized = quantize(array, NONLINEAR, 32, np.eye(64, dtype=np.float32)[None])
    assert quantized.scales.dtype == np.float32
    assert np.abs(dequantize(quantized, 64) - array).max() <= np.abs(array).max() / 8


@EVERY
def test_levels_are_the_nearest_for_the_scales_that_are_stored(levels: Levels) -> None:
    weight = random_weight(64, 256).array
    quantized = quantize(weight, levels, 32)
    scales = quantized.scales.astype(np.float32).repeat(32, -1)
    least = np.abs(weight[..., None] - scales[..., None] * levels.values).min(-1)
    np.testing.assert_allclose(np.abs(dequantize(quantized, 256) - weight), least, atol=1e-6)


@EVERY
def test_searching_a_scale_is_no_worse_than_the_largest_weight(levels: Levels) -> None:
    weight = random_weight(64, 256).array
    blocks = weight.reshape(64, -1, 32)
    scale = np.abs(blocks).max(-1, keepdims=True) / ((1 << (levels.bits - 1)) - 1)
    plain = np.rint(blocks / scale) * scale
    restored = dequantize(quantize(weight, levels, 32), 256)
    assert np.square(restored - weight).sum() <= np.square(plain - blocks).sum()


@pytest.mark.parametrize(("dtype", "inputs"), [("int8", 64), ("int8", 40), ("int4", 64), ("int4", 40)])
def test_product_and_embedding_compute_with_the_quantised_weights(dtype: Dtype, inputs: int) -> None:
    weight = random_weight(48, inputs)
    even = EVEN[8 if dtype == "int8" else 4]
    levels = NONLINEAR if dtype == "int4" and inputs % 32 == 0 else even
    expected = dequantize(quantize(weight.array, levels, 32), inputs)
    x = np.random.default_rng(1).standard_normal((5, inputs)).astype(np.float32)
    product = session(lowering(dtype).linear(weight, "x", "y"), "x", TensorProto.FLOAT, ["M", inputs])
    y = product.run(None, {"x": x})[0]
    assert np.abs(y - x @ expected.T).max() <= 0.02 * np.abs(y).max()  # activations are rounded to 8 bits
    plain = QuantizedLowering(bits=even.bits, block_size=32)
    look_up = session(plain.embedding(weight, "ids", "y"), "ids", TensorProto.INT64, ["B", "S"])
    ids = np.array([[0, 47, 3]])
    rows = dequantize(quantize(weight.array, even, 32), inputs) if inputs % 32 == 0 else weight.array
    np.testing.assert_allclose(look_up.run(None, {"ids": ids})[0], rows[ids], rtol=1e-6)


def test_scales_beyond_16_bits_have_even_levels() -> None:
    weight = random_weight(48, 64)
    large = Weight(weight.name, weight.source, weight.array * np.float32(1e9))
    kinds = [lowering("int4").linear(each, "x", "y").nodes[0].op_type for each in (weight, large)]
    assert kinds == ["MatMulLevels", "MatMulNBits"]


def test_bias_is_added() -> None:
    plain = random_weight(48, 64)
    biased = Weight(plain.name, plain.source, plain.array, np.linspace(-1, 1, 48, dtype=np.float32))
    x = np.random.default_rng(1).standard_normal((5, 64)).astype(np.float32)
    for dtype in ("float32", "float16", "bfloat16", "int8", "int4"):
        answers = [
            session(lowering(dtype).linear(weight, "x", "y"), "x", TensorProto.FLOAT, ["M", 64]).run(None, {"x": x})[0]
            for weight in (plain, biased)
        ]
        assert biased.bias is not None
        np.testing.assert_allclose(answers[1] - answers[0], np.tile(biased.bias, (5, 1)), atol=1e-5)


@pytest.mark.parametrize("shape", [(192, 64), (96, 576), (576, 96)])
@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_a_row_of_a_batch_has_the_same_bits_in_any_batch(dtype: str, shape: tuple[int, int]) -> None:
    """Batches of two rows or more. On AVX2 a lone row of 4-bit weights uses another kernel: the engine pads it."""
    product = session(lowering(dtype).linear(random_weight(*shape), "x", "y"), "x", TensorProto.FLOAT, ["M", shape[1]])
    x = np.random.default_rng(2).standard_normal((128, shape[1])).astype(np.float32)
    whole = product.run(None, {"x": x})[0]
    least = 1 if dtype == "int8" else 2
    for rows in (*range(least, 17), 33, 64):
        for start in (0, 1, 7):
            part = product.run(None, {"x": x[start : start + rows]})[0]
            assert np.array_equal(part, whole[start : start + rows]), (rows, start)


@pytest.mark.parametrize(
    ("dtype", "role", "factor", "expected"),
    [
        ("int8", "lm_head", 1, 16),
        ("int8", "down_proj", 1, 8),
        ("int4", "lm_head", 1, 16),
        ("int4", "lm_head", 1e-6, None),
        ("int8", "lm_head", 1e-6, None),  # its scales need 32 bits, so it is in ONNX Runtime's domain
    ],
)
def test_a_product_of_infrs_names_the_bits_of_its_activations(
    dtype: Literal["int8", "int4"], role: str, factor: float, expected: int | None
) -> None:
    array = np.random.default_rng(0).standard_normal((32, 64)).astype(np.float32) * np.float32(factor)
    (node,) = lowering(dtype).linear(Weight(role, role, array), "x", "y").nodes
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    assert attributes.get("input_bits") == expected
    assert node.domain == ("com.microsoft" if expected is None else "infrs.native")
