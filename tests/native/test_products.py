"""MatMulNBits against dequantised weights in float64, and a row's bits whatever is beside it."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_graphs import FLOAT, Floats, graph_of, opened_with_own
from onnx import helper, numpy_helper

from infrs.engine.session import Kernels

BLOCK = 32
LEVELS = {4: 127, 8: 32767}  # that inputs are rounded to: 8-bit weights by rows, 4-bit weights by blocks
SHAPES = [(1, 32), (5, 64), (16, 96), (17, 576), (33, 1536), (40, 32)]  # outputs, inputs
Case = tuple[int, tuple[int, int]]
cases = st.tuples(st.sampled_from([4, 8]), st.sampled_from(SHAPES))


@cache
def quantised(bits: int, shape: tuple[int, int]) -> tuple[npt.NDArray[np.uint8], Floats]:
    outputs, inputs = shape
    rng = np.random.default_rng(bits)
    values = rng.integers(0, 256, (outputs, inputs // BLOCK, BLOCK * bits // 8), dtype=np.uint8)
    scales = (rng.standard_normal((outputs, inputs // BLOCK)) * 10.0 ** rng.uniform(-4, 1)).astype(np.float32)
    scales.flat[0] = 0
    return values, scales


@cache
def dequantised(bits: int, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    values, scales = quantised(bits, shape)
    if bits == 4:
        values = np.stack([values & 15, values >> 4], axis=-1).reshape(*values.shape[:2], BLOCK)
    return ((values.astype(np.float64) - 2 ** (bits - 1)) * scales[..., None].astype(np.float64)).reshape(shape)


@cache
def product(bits: int, shape: tuple[int, int], threads: int, kernels: Kernels) -> ort.InferenceSession:
    values, scales = quantised(bits, shape)
    attributes = {"N": shape[0], "K": shape[1], "bits": bits, "block_size": BLOCK}
    inputs: dict[str, Any] = {"x": (FLOAT, ["batch", "rows", "inputs"]), "values": values, "scales": scales}
    model = graph_of("MatMulNBits", inputs, {"y": ["batch", "rows", shape[0]]}, attributes)
    return opened_with_own(model, threads, kernels)


def multiply(case: Case, x: Floats, threads: int = 1, kernels: Kernels = "auto") -> Floats:
    return np.asarray(product(*case, threads, kernels).run(None, {"x": x[None]})[0][0])


def drawn_rows(case: Case, rows: int, seed: int) -> Floats:
    """Rows of very different sizes, some with outliers and some with zeros."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, case[1][1])) * 10.0 ** rng.uniform(-40, 20, (rows, 1))
    x[rng.random(x.shape) < 0.01] *= 1000
    x[rng.random(x.shape) < rng.random()] = 0
    return x.astype(np.float32)


def bound(case: Case, x: Floats) -> npt.NDArray[np.float64]:
    """What rounding the inputs to integers and the scales to 16 bits, and adding in float32, can come to."""
    bits, (outputs, inputs) = case
    blocks = inputs // BLOCK
    weights = np.abs(dequantised(*case)).reshape(outputs, blocks, BLOCK).sum(axis=-1)  # [N, blocks]
    largest = np.abs(x.astype(np.float64)).reshape(len(x), blocks, BLOCK).max(axis=-1)
    if bits == 8:
        largest = np.broadcast_to(largest.max(axis=-1, keepdims=True), largest.shape)
    step = largest / LEVELS[bits]  # between two levels; inputs below 1e-33 are taken as zeros
    rounding = (0.51 * step + np.minimum(largest, 1e-33)) @ weights.T
    adding = (blocks + 4) * 2.0**-24 * (largest @ weights.T)
    scaling = 2.0**-11 * (np.abs(x.astype(np.float64)) @ np.abs(dequantised(*case)).T)
    return rounding + adding + scaling + 1e-37


@given(cases, st.integers(1, 130), st.integers(0, 2**32), st.sampled_from([1, 2]))
@settings(max_examples=40)
def test_products_of_dequantised_weights(case: Case, rows: int, seed: int, threads: int) -> None:
    x = drawn_rows(case, rows, seed)
    error = np.abs(multiply(case, x, threads) - x.astype(np.float64) @ dequantised(*case).T)
    assert (error <= bound(case, x)).all()


@pytest.mark.parametrize("bits", [4, 8])
def test_the_bound_is_tight_enough_to_see_an_error(bits: int) -> None:
    case = (bits, (17, 576))
    x = np.random.default_rng(0).standard_normal((3, 576)).astype(np.float32)
    assert (bound(case, x) < 0.1 * np.abs(x.astype(np.float64) @ dequantised(*case).T).max()).all()


@given(cases, st.integers(1, 130), st.integers(0, 2**32), st.data())
@settings(max_examples=40)
def test_a_row_has_the_same_bits_whatever_is_beside_it(case: Case, rows: int, seed: int, data: st.DataObject) -> None:
    x = drawn_rows(case, rows, seed)
    together = multiply(case, x, threads=2)
    chosen = data.draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=60))
    assert multiply(case, x[chosen]).tobytes() == together[chosen].tobytes()
    row = data.draw(st.sampled_from(chosen))
    assert multiply(case, x[row : row + 1]).tobytes() == together[row].tobytes()


@given(cases, st.integers(1, 130), st.integers(0, 2**32))
@settings(max_examples=40)
def test_wider_vectors_give_the_same_bits(case: Case, rows: int, seed: int) -> None:
    """Where the processor has no AVX-512, both are the same kernel."""
    x = drawn_rows(case, rows, seed)
    assert multiply(case, x).tobytes() == multiply(case, x, kernels="avx2").tobytes()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("bits", [4, 8])
def test_what_is_not_finite_spoils_its_own_row_only(bits: int, value: float) -> None:
    case = (bits, (33, 1536))
    x = np.random.default_rng(1).standard_normal((9, 1536)).astype(np.float32)
    good = multiply(case, x)
    x[4, 700] = value
    spoilt = multiply(case, x)
    assert not np.isfinite(spoilt[4]).any()
    assert np.delete(spoilt, 4, axis=0).tobytes() == np.delete(good, 4, axis=0).tobytes()


@pytest.mark.parametrize("bits", [4, 8])
def test_an_addition_that_follows_becomes_the_bias_of_the_product(bits: int) -> None:
    """ONNX Runtime folds it into the node: projections with a bias, as qwen2's."""
    case = (bits, (17, 576))
    values, scales = quantised(*case)
    bias = np.linspace(-3, 3, 17, dtype=np.float32)
    inputs: dict[str, Any] = {"x": (FLOAT, ["rows", 576]), "values": values, "scales": scales}
    attributes = {"N": 17, "K": 576, "bits": bits, "block_size": BLOCK}
    model = graph_of("MatMulNBits", inputs, {"product": ["rows", 17]}, attributes)
    model.graph.initializer.append(numpy_helper.from_array(bias, "bias"))
    model.graph.node.append(helper.make_node("Add", ["product", "bias"], ["y"]))
    model.graph.output[0].name = "y"
    x = drawn_rows(case, 7, 3)
    expected = multiply(case, x) + bias
    assert opened_with_own(model).run(None, {"x": x})[0].tobytes() == expected.tobytes()


@pytest.mark.parametrize("size", [1e-30, 1e-7, 1e30])
@pytest.mark.parametrize("bits", [4, 8])
def test_scales_of_any_size(bits: int, size: float) -> None:
    values, scales = quantised(bits, (17, 576))
    inputs = {"x": (FLOAT, ["rows", 576]), "values": values, "scales": (scales * size).astype(np.float32)}
    attributes = {"N": 17, "K": 576, "bits": bits, "block_size": BLOCK}
    session = opened_with_own(graph_of("MatMulNBits", inputs, {"y": ["rows", 17]}, attributes))
    x = np.random.default_rng(2).standard_normal((3, 576)).astype(np.float32)
    error = np.abs(session.run(None, {"x": x})[0] / size - x.astype(np.float64) @ dequantised(bits, (17, 576)).T)
    assert (error <= bound((bits, (17, 576)), x)).all()


@pytest.mark.parametrize("bits", [4, 8])
def test_the_largest_sums_fit(bits: int) -> None:
    """Every input at its largest level, every weight at an end of its range: the integer sums must not wrap."""
    shape = (16, 65536)
    values = np.zeros((16, shape[1] // BLOCK, BLOCK * bits // 8), np.uint8)
    values[8:] = 255
    inputs = {"x": (FLOAT, ["rows", shape[1]]), "values": values, "scales": np.ones(values.shape[:2], np.float32)}
    attributes = {"N": 16, "K": shape[1], "bits": bits, "block_size": BLOCK}
    session = opened_with_own(graph_of("MatMulNBits", inputs, {"y": ["rows", 16]}, attributes))
    x = np.full((2, shape[1]), 3.0, np.float32)
    x[1] = -3
    low, high = -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1
    expected = 3.0 * shape[1] * np.array([[low] * 8 + [high] * 8, [-low] * 8 + [-high] * 8])
    np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, rtol=1e-4)


def test_no_rows_and_another_width() -> None:
    case = (8, (5, 64))
    assert multiply(case, np.empty((0, 64), np.float32)).shape == (0, 5)
    with pytest.raises(Exception, match="the input's last dimension is not K"):
        multiply(case, np.ones((1, 32), np.float32))
    assert np.isfinite(multiply(case, np.ones((1, 64), np.float32))).all()
