"""MatMulNBits agrees with dequantized weights in float64, and a row's bits do not depend on other rows.

A case is the bits of the weights, the bits that inputs are rounded to, and the shape. On AVX2 8-bit weights meet 16-bit
inputs even where 8 are asked for.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from infrs_export.graph.fusions.functions import functions
from kernel_graphs import FLOAT, Floats, graph_of, has_vnni, opened, opened_with_own
from onnx import helper, numpy_helper

from infrs.errors import BundleError
from infrs.native.options import AUTO, AVX2, AVX_VNNI, ONNXRUNTIME, PRECISE, KernelOptions

BLOCK = 32
SHAPES = [(1, 32), (5, 64), (16, 96), (17, 576), (33, 1536), (40, 32)]  # outputs, inputs
FORMS = [(4, 8), (8, 8), (8, 16)]  # bits of weights and inputs
Case = tuple[int, int, tuple[int, int]]
cases = st.builds(lambda form, shape: (*form, shape), st.sampled_from(FORMS), st.sampled_from(SHAPES))
every_form = pytest.mark.parametrize("form", FORMS, ids=str)


@cache
def quantized(bits: int, shape: tuple[int, int]) -> tuple[npt.NDArray[np.uint8], Floats]:
    outputs, inputs = shape
    rng = np.random.default_rng(bits)
    values = rng.integers(0, 256, (outputs, inputs // BLOCK, BLOCK * bits // 8), dtype=np.uint8)
    scales = (rng.standard_normal((outputs, inputs // BLOCK)) * 10.0 ** rng.uniform(-4, 1)).astype(np.float32)
    scales.flat[0] = 0
    return values, scales


@cache
def dequantized(bits: int, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    values, scales = quantized(bits, shape)
    if bits == 4:
        values = np.stack([values & 15, values >> 4], axis=-1).reshape(*values.shape[:2], BLOCK)
    return ((values.astype(np.float64) - 2 ** (bits - 1)) * scales[..., None].astype(np.float64)).reshape(shape)


def attributes_of(bits: int, input_bits: int, shape: tuple[int, int]) -> dict[str, Any]:
    """Return the attributes of a node. The name of the output layer asks for 16-bit inputs."""
    name = {8: "model.layers.0.mlp.down_proj/MatMulNBits", 16: "lm_head/MatMulNBits"}[input_bits]
    return {"name": name, "N": shape[0], "K": shape[1], "bits": bits, "block_size": BLOCK}


@cache
def product(
    bits: int, input_bits: int, shape: tuple[int, int], threads: int, kernels: KernelOptions
) -> ort.InferenceSession:
    values, scales = quantized(bits, shape)
    inputs: dict[str, Any] = {"x": (FLOAT, ["batch", "rows", "inputs"]), "values": values, "scales": scales}
    model = graph_of("MatMulNBits", inputs, {"y": ["batch", "rows", shape[0]]}, attributes_of(bits, input_bits, shape))
    return opened_with_own(model, threads, kernels)


def weights_of(case: Case) -> npt.NDArray[np.float64]:
    return dequantized(case[0], case[-1])


def multiply(case: Case, x: Floats, threads: int = 1, kernels: KernelOptions = AUTO) -> Floats:
    return np.asarray(product(*case, threads, kernels).run(None, {"x": x[None]})[0][0])


def drawn_rows(case: Case, rows: int, seed: int) -> Floats:
    """Return rows of very different magnitudes, with outliers and zeros."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, case[-1][1])) * 10.0 ** rng.uniform(-40, 20, (rows, 1))
    x[rng.random(x.shape) < 0.01] *= 1000
    x[rng.random(x.shape) < rng.random()] = 0
    return x.astype(np.float32)


def bound(case: Case, x: Floats) -> npt.NDArray[np.float64]:
    """Return the largest error of rounded inputs, 16-bit scales and float32 additions: [rows, outputs]."""
    bits, input_bits, (outputs, inputs) = case
    blocks = inputs // BLOCK
    levels = 127 if input_bits == 8 else 32767
    weights = np.abs(weights_of(case)).reshape(outputs, blocks, BLOCK).sum(axis=-1)  # [N, blocks]
    largest = np.abs(x.astype(np.float64)).reshape(len(x), blocks, BLOCK).max(axis=-1)
    if input_bits == 16 or (bits == 8 and not has_vnni()):  # one scale per row
        largest = np.broadcast_to(largest.max(axis=-1, keepdims=True), largest.shape)
    step = largest / levels  # between two levels; inputs below 1e-33 are taken as zeros
    rounding = (0.51 * step + np.minimum(largest, 1e-33)) @ weights.T
    adding = (blocks + 4) * 2.0**-24 * (largest @ weights.T)
    scaling = 2.0**-11 * (np.abs(x.astype(np.float64)) @ np.abs(weights_of(case)).T)
    return rounding + adding + scaling + 1e-37


@given(cases, st.integers(1, 130), st.integers(0, 2**32), st.sampled_from([1, 2]))
@settings(max_examples=40)
def test_a_product_agrees_with_dequantized_weights(case: Case, rows: int, seed: int, threads: int) -> None:
    x = drawn_rows(case, rows, seed)
    error = np.abs(multiply(case, x, threads) - x.astype(np.float64) @ weights_of(case).T)
    assert (error <= bound(case, x)).all()


@every_form
def test_the_error_bound_is_small_compared_with_the_products(form: tuple[int, int]) -> None:
    case = (*form, (17, 576))
    x = np.random.default_rng(0).standard_normal((3, 576)).astype(np.float32)
    assert (bound(case, x) < 0.1 * np.abs(x.astype(np.float64) @ weights_of(case).T).max()).all()


@given(cases, st.integers(1, 130), st.integers(0, 2**32), st.data())
@settings(max_examples=40)
def test_a_row_has_the_same_bits_next_to_any_other_rows(case: Case, rows: int, seed: int, data: st.DataObject) -> None:
    x = drawn_rows(case, rows, seed)
    together = multiply(case, x, threads=2)
    chosen = data.draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=60))
    assert multiply(case, x[chosen]).tobytes() == together[chosen].tobytes()
    row = data.draw(st.sampled_from(chosen))
    assert multiply(case, x[row : row + 1]).tobytes() == together[row].tobytes()


@given(cases, st.integers(1, 130), st.integers(0, 2**32))
@settings(max_examples=40)
def test_all_instructions_give_the_same_bits(case: Case, rows: int, seed: int) -> None:
    """Those that the processor lacks run the next ones."""
    x = drawn_rows(case, rows, seed)
    assert multiply(case, x, kernels=AVX_VNNI).tobytes() == multiply(case, x).tobytes()
    wide = {multiply(case, x, kernels=kernels).tobytes() for kernels in (PRECISE, replace(AVX_VNNI, precision="high"))}
    assert wide == {multiply(case, x, kernels=AVX2).tobytes()}


def test_only_high_precision_and_the_output_layer_round_to_16_bits() -> None:
    shape = (33, 1536)
    x = np.random.default_rng(4).standard_normal((9, 1536)).astype(np.float32)
    narrow, output_layer = multiply((8, 8, shape), x), multiply((8, 16, shape), x)
    assert multiply((8, 8, shape), x, kernels=PRECISE).tobytes() == output_layer.tobytes()
    assert (narrow.tobytes() != output_layer.tobytes()) == has_vnni()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@every_form
def test_an_input_that_is_not_finite_affects_its_own_row_only(form: tuple[int, int], value: float) -> None:
    case = (*form, (33, 1536))
    x = np.random.default_rng(1).standard_normal((9, 1536)).astype(np.float32)
    good = multiply(case, x)
    x[4, 700] = value
    spoilt = multiply(case, x)
    assert not np.isfinite(spoilt[4]).any()
    assert np.delete(spoilt, 4, axis=0).tobytes() == np.delete(good, 4, axis=0).tobytes()


@every_form
def test_an_addition_after_the_product_becomes_its_bias(form: tuple[int, int]) -> None:
    """ONNX Runtime merges the nodes, for example in the projections of qwen2."""
    case = (*form, (17, 576))
    values, scales = quantized(form[0], case[-1])
    bias = np.linspace(-3, 3, 17, dtype=np.float32)
    inputs: dict[str, Any] = {"x": (FLOAT, ["rows", 576]), "values": values, "scales": scales}
    model = graph_of("MatMulNBits", inputs, {"product": ["rows", 17]}, attributes_of(*case))
    model.graph.initializer.append(numpy_helper.from_array(bias, "bias"))
    model.graph.node.append(helper.make_node("Add", ["product", "bias"], ["y"]))
    model.graph.output[0].name = "y"
    x = drawn_rows(case, 7, 3)
    expected = multiply(case, x) + bias
    assert opened_with_own(model).run(None, {"x": x})[0].tobytes() == expected.tobytes()


@pytest.mark.parametrize("size", [1e-30, 1e-7, 1e30])
@every_form
def test_scales_of_any_magnitude_keep_the_error_bound(form: tuple[int, int], size: float) -> None:
    case = (*form, (17, 576))
    values, scales = quantized(form[0], case[-1])
    inputs = {"x": (FLOAT, ["rows", 576]), "values": values, "scales": (scales * size).astype(np.float32)}
    session = opened_with_own(graph_of("MatMulNBits", inputs, {"y": ["rows", 17]}, attributes_of(*case)))
    x = np.random.default_rng(2).standard_normal((3, 576)).astype(np.float32)
    error = np.abs(session.run(None, {"x": x})[0] / size - x.astype(np.float64) @ weights_of(case).T)
    assert (error <= bound(case, x)).all()


@every_form
def test_the_largest_sums_do_not_overflow(form: tuple[int, int]) -> None:
    """Every input is at its largest level and every weight at an end of its range."""
    shape, bits = (16, 65536), form[0]
    values = np.zeros((16, shape[1] // BLOCK, BLOCK * bits // 8), np.uint8)
    values[8:] = 255
    inputs = {"x": (FLOAT, ["rows", shape[1]]), "values": values, "scales": np.ones(values.shape[:2], np.float32)}
    session = opened_with_own(graph_of("MatMulNBits", inputs, {"y": ["rows", 16]}, attributes_of(*form, shape)))
    x = np.full((2, shape[1]), 3.0, np.float32)
    x[1] = -3
    low, high = -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1
    expected = 3.0 * shape[1] * np.array([[low] * 8 + [high] * 8, [-low] * 8 + [-high] * 8])
    np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, rtol=1e-4)


def test_no_rows_give_no_output_and_another_width_is_an_error() -> None:
    case = (8, 8, (5, 64))
    assert multiply(case, np.empty((0, 64), np.float32)).shape == (0, 5)
    with pytest.raises(Exception, match="the input's last dimension is not K"):
        multiply(case, np.ones((1, 32), np.float32))
    assert np.isfinite(multiply(case, np.ones((1, 64), np.float32))).all()


@every_form
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_float16_scales_give_the_bits_of_the_same_float32_scales(form: tuple[int, int], shape: tuple[int, int]) -> None:
    bits, input_bits = form
    values, drawn = quantized(bits, shape)
    scales = np.clip(drawn, -60000, 60000).astype(np.float16)
    answers = []
    for kept in (scales, scales.astype(np.float32)):
        inputs: dict[str, Any] = {"x": (FLOAT, ["rows", shape[1]]), "values": values, "scales": kept}
        model = graph_of("MatMulNBits", inputs, {"y": ["rows", shape[0]]}, attributes_of(bits, input_bits, shape))
        if kept.dtype == np.float16:
            model.graph.node[0].domain = model.opset_import[1].domain = "infrs.native"
        x = np.random.default_rng(0).standard_normal((7, shape[1])).astype(np.float32)
        answers.append(opened_with_own(model).run(None, {"x": x})[0])
    assert np.isfinite(answers[0]).all()
    assert answers[0].tobytes() == answers[1].tobytes()


def narrow(name: str, **attributes: int) -> onnx.ModelProto:
    """Return a graph of infrs's own product: 8-bit weights with 16-bit scales."""
    values, scales = quantized(8, (33, 1536))
    inputs: dict[str, Any] = {
        "x": (FLOAT, ["batch", "rows", 1536]),
        "values": values,
        "scales": np.clip(scales, -60000, 60000).astype(np.float16),
    }
    given = {"name": name, "N": 33, "K": 1536, "bits": 8, "block_size": BLOCK, "accuracy_level": 4}
    model = graph_of("MatMulNBits", inputs, {"y": ["batch", "rows", 33]}, given | attributes)
    model.graph.node[0].domain = "infrs.native"
    model.opset_import.append(helper.make_opsetid("infrs.native", 1))
    opsets = {opset.domain: opset.version for opset in model.opset_import}
    model.functions.extend(functions(model.graph.node, opsets))
    return model


def test_input_bits_of_a_node_choose_the_rounding_of_activations_whatever_its_name_is() -> None:
    """A node without the attribute, as in older bundles, has 16 bits if its name begins with lm_head."""
    x = np.random.default_rng(4).standard_normal((1, 9, 1536)).astype(np.float32)

    def result(model: onnx.ModelProto, kernels: KernelOptions = AUTO) -> bytes:
        return np.asarray(opened(model, kernels=kernels).run(None, {"x": x})[0]).tobytes()

    narrow_bits, wide_bits = result(narrow("gate")), result(narrow("lm_head"))
    assert (narrow_bits != wide_bits) == has_vnni()
    assert result(narrow("gate", input_bits=16)) == wide_bits
    assert result(narrow("lm_head", input_bits=8)) == narrow_bits
    assert result(narrow("lm_head", input_bits=16)) == wide_bits
    without = [result(narrow("gate", input_bits=bits), ONNXRUNTIME) for bits in (8, 16)]
    assert without == [result(narrow("gate"), ONNXRUNTIME)] * 2
    with pytest.raises(BundleError, match="invalid node: MatMulNBits: input_bits is neither 8 nor 16"):
        opened(narrow("gate", input_bits=4))
