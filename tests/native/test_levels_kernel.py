"""A product with weights of 16 levels agrees with one in float64, and all instructions give the same bits."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from experts_graph import NARROW, WIDE
from hypothesis import given, settings
from hypothesis import strategies as st
from infrs_export.graph.fusions.functions import functions
from kernel_graphs import FLOAT, Floats, graph_of, opened, opened_with_own
from onnx import helper

from infrs.engine.runners.session import kernels_of
from infrs.errors import BundleError
from infrs.native.options import AUTO, AVX2, AVX_VNNI, ONNXRUNTIME, PRECISE, KernelOptions

BLOCK = 32
LEVELS = {
    "narrow": NARROW,
    "wide": WIDE,
    "in any order": (*WIDE[8:], *WIDE[:8]),
    "above zero": tuple(range(3, 67, 4)),
    "all alike": (5,) * 16,
}
SHAPES = [(1, 32), (15, 64), (16, 576), (17, 1536), (33, 96), (100, 160)]  # outputs, inputs
Case = tuple[str, tuple[int, int]]
cases = st.tuples(st.sampled_from(sorted(LEVELS)), st.sampled_from(SHAPES))
every_table = pytest.mark.parametrize("table", LEVELS)


@cache
def constants(case: Case) -> dict[str, npt.NDArray[Any]]:
    table, (outputs, inputs) = case
    rng = np.random.default_rng(outputs * inputs)
    return {
        "values": rng.integers(0, 256, (outputs, inputs // BLOCK, BLOCK // 2), dtype=np.uint8),
        "scales": (rng.uniform(-1, 1, (outputs, inputs // BLOCK)) / 64).astype(np.float16),
        "levels": np.array(LEVELS[table], np.float32),
    }


def model(case: Case, bias: Floats | None = None, **replaced: npt.NDArray[Any]) -> onnx.ModelProto:
    """Return a graph of one node, which also defines the operator."""
    outputs, inputs = case[1]
    given: dict[str, Any] = {"x": (FLOAT, ["rows", inputs])} | constants(case) | replaced | {"bias": bias}
    made = graph_of("MatMulLevels", given, {"y": ["rows", outputs]}, {"N": outputs, "K": inputs})
    made.graph.node[0].domain = made.opset_import[1].domain = "infrs.native"
    made.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    made.functions.extend(functions(made.graph.node, {"": 21, "com.microsoft": 1}))
    return made


@cache
def session(case: Case, kernels: KernelOptions = AUTO, threads: int = 1) -> ort.InferenceSession:
    return opened_with_own(model(case), threads, kernels)


def multiply(case: Case, x: Floats, kernels: KernelOptions = AUTO, threads: int = 1) -> Floats:
    return np.asarray(session(case, kernels, threads).run(None, {"x": x})[0])


def weights_of(case: Case) -> npt.NDArray[np.float64]:
    parts = constants(case)
    numbers = np.stack([parts["values"] & 15, parts["values"] >> 4], axis=-1).reshape(*parts["scales"].shape, BLOCK)
    weights = parts["levels"].astype(np.float64)[numbers] * parts["scales"].astype(np.float64)[..., None]
    return weights.reshape(len(weights), -1)


def drawn_rows(case: Case, rows: int, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, case[1][1])) * 10.0 ** rng.uniform(-3, 3, (rows, 1))
    x[rng.random(x.shape) < 0.01] *= 1000
    return x.astype(np.float32)


def bound(case: Case, x: Floats) -> npt.NDArray[np.float64]:
    """Return the largest error of inputs rounded to 8 bits, 16-bit scales and float32 additions: [rows, outputs]."""
    blocks = x.shape[1] // BLOCK
    weights = np.abs(weights_of(case)).reshape(-1, blocks, BLOCK).sum(axis=-1)
    largest = np.abs(x.astype(np.float64)).reshape(len(x), blocks, BLOCK).max(axis=-1)
    rounding = 0.51 / 127 + (blocks + 4) * 2.0**-24 + 2.0**-11
    return rounding * largest @ weights.T + 1e-37


@given(cases, st.integers(1, 130), st.integers(0, 2**32), st.sampled_from([1, 2]))
@settings(max_examples=40, deadline=None)
def test_a_product_agrees_with_dequantized_weights(case: Case, rows: int, seed: int, threads: int) -> None:
    x = drawn_rows(case, rows, seed)
    error = np.abs(multiply(case, x, threads=threads) - x.astype(np.float64) @ weights_of(case).T)
    assert (error <= bound(case, x)).all()


@given(cases, st.integers(1, 130), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_all_instructions_give_the_same_bits(case: Case, rows: int, seed: int) -> None:
    x = drawn_rows(case, rows, seed)
    assert len({multiply(case, x, kernels).tobytes() for kernels in (AUTO, AVX_VNNI, AVX2, PRECISE)}) == 1


@given(cases, st.integers(1, 130), st.integers(0, 2**32), st.data())
@settings(max_examples=40, deadline=None)
def test_a_row_has_the_same_bits_next_to_any_other_rows(case: Case, rows: int, seed: int, data: st.DataObject) -> None:
    x = drawn_rows(case, rows, seed)
    together = multiply(case, x, threads=2)
    chosen = data.draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=60))
    assert multiply(case, x[chosen]).tobytes() == together[chosen].tobytes()


@every_table
@pytest.mark.parametrize("kernels", [AUTO, AVX2])
def test_the_largest_sums_are_exact(table: str, kernels: KernelOptions) -> None:
    """Equal inputs round to 127 or -127, and all weights of an output have the smallest or the largest level."""
    case = (table, (32, 64))
    numbers = [int(np.argmin(LEVELS[table])), int(np.argmax(LEVELS[table]))]
    values = np.repeat(np.array([17 * number for number in numbers], np.uint8), 16)[:, None, None].repeat(2, 1)
    parts = {"values": np.tile(values, (1, 1, 16)), "scales": np.ones((32, 2), np.float16)}
    x = np.array([[1.0] * 64, [-1.0] * 64], np.float32)
    y = opened_with_own(model(case, **parts), 1, kernels).run(None, {"x": x})[0]
    expected = [64.0 * LEVELS[table][number] for number in numbers]
    np.testing.assert_allclose(y, np.outer([1, -1], np.repeat(expected, 16)), rtol=1e-6)


@every_table
def test_the_function_computes_the_same_without_infrs_kernels(table: str) -> None:
    case, bias = (table, (17, 576)), np.linspace(-3, 3, 17, dtype=np.float32)
    x = drawn_rows(case, 9, seed=1)
    plain = opened(model(case, bias), kernels=ONNXRUNTIME)
    assert not kernels_of(plain)
    own = opened_with_own(model(case, bias)).run(None, {"x": x})[0]
    assert own.tobytes() != multiply(case, x).tobytes()
    np.testing.assert_allclose(plain.run(None, {"x": x})[0], own, atol=1e-5 * float(np.abs(own).max()))


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("levels", np.zeros(15, np.float32)),
        ("levels", np.array([*NARROW[:-1], 0.5], np.float32)),
        ("levels", np.array([*NARROW[:-1], 128], np.float32)),
        ("levels", np.array([*NARROW[:-1], np.nan], np.float32)),
        ("scales", np.full((17, 18), np.inf, np.float16)),
        ("scales", np.zeros((17, 17), np.float16)),
        ("values", np.zeros((16, 18, 16), np.uint8)),
        ("values", np.zeros((17, 18, 32), np.uint8)),
    ],
)
def test_impossible_constants_are_refused(part: str, value: npt.NDArray[Any]) -> None:
    with pytest.raises(BundleError, match="invalid node"):
        opened(model(("narrow", (17, 576)), **{part: value}))
