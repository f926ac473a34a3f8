"""Linear agrees with a product in float64, and a row's bits depend neither on other rows nor on the instructions.

A case is the dtype of the weights, the bits that inputs may be rounded to, and the shape.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_graphs import Floats, has_bf16, opened, opened_with_own
from linear_graph import DTYPES, model

from infrs.engine.runners.session import kernels_of
from infrs.errors import BundleError
from infrs.native.options import AUTO, AVX2, ONNXRUNTIME, PRECISE, KernelOptions

SHAPES = [(1, 1), (5, 64), (32, 7), (33, 576), (31, 33), (64, 2), (70, 1537)]  # outputs, inputs
FORMS = [*((dtype, 32) for dtype in DTYPES), ("bfloat16", 16)]
Case = tuple[str, int, tuple[int, int]]
cases = st.builds(lambda form, shape: (*form, shape), st.sampled_from(FORMS), st.sampled_from(SHAPES))
every_form = pytest.mark.parametrize("form", FORMS, ids=str)


def weights_of(case: Case) -> npt.NDArray[Any]:
    return drawn_weights(case[0], case[-1])


@cache
def drawn_weights(dtype: str, shape: tuple[int, int]) -> npt.NDArray[Any]:
    rng = np.random.default_rng(shape[1])
    weights = rng.standard_normal(shape) * 10.0 ** rng.uniform(-4, 2, (shape[0], 1))
    weights[rng.random(shape) < 0.1] = 0
    weights.flat[:: shape[1] + 3] = 6e-8  # subnormal in float16
    return weights.astype(DTYPES[dtype])


@cache
def session(case: Case, threads: int, kernels: KernelOptions) -> ort.InferenceSession:
    return opened_with_own(model(weights_of(case), case[1]), threads, kernels)


def multiply(case: Case, x: Floats, threads: int = 1, kernels: KernelOptions = AUTO) -> Floats:
    return np.asarray(session(case, threads, kernels).run(None, {"x": x[None]})[0][0])


def drawn_rows(case: Case, rows: int, seed: int) -> Floats:
    """Return rows of very different magnitudes, with outliers and zeros."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, case[-1][1])) * 10.0 ** rng.uniform(-20, 20, (rows, 1))
    x[rng.random(x.shape) < 0.01] *= 1000
    x[rng.random(x.shape) < rng.random()] = 0
    return x.astype(np.float32)


def is_rounded(case: Case, kernels: KernelOptions = AUTO) -> bool:
    """Return whether the kernels round the inputs to bfloat16."""
    return case[1] == 16 and kernels == AUTO and has_bf16()


def expected(case: Case, x: Floats, kernels: KernelOptions = AUTO) -> npt.NDArray[np.float64]:
    inputs = x.astype(ml_dtypes.bfloat16) if is_rounded(case, kernels) else x
    return inputs.astype(np.float64) @ weights_of(case).astype(np.float64).T


def bound(case: Case, x: Floats) -> npt.NDArray[np.float64]:
    """Return the largest error of a float32 sum, in which a dot product takes subnormal numbers as 0."""
    sizes = np.abs(x.astype(np.float64)) @ np.abs(weights_of(case).astype(np.float64)).T
    tiny = np.abs(weights_of(case).astype(np.float64)).sum(axis=1) + np.abs(x.astype(np.float64)).sum(axis=1)[:, None]
    return (x.shape[1] + 1) * 2.0**-23 * sizes + x.shape[1] * 2.0**-126 + 2.0**-126 * tiny


@given(cases, st.integers(1, 130), st.integers(0, 2**32), st.sampled_from([1, 2]), st.sampled_from([AUTO, AVX2]))
@settings(max_examples=60)
def test_a_product_agrees_with_float64(case: Case, rows: int, seed: int, threads: int, kernels: KernelOptions) -> None:
    x = drawn_rows(case, rows, seed)
    error = np.abs(multiply(case, x, threads, kernels) - expected(case, x, kernels))
    assert (error <= bound(case, x)).all()


@given(cases, st.integers(1, 130), st.integers(0, 2**32), st.data())
@settings(max_examples=60)
def test_a_row_has_the_same_bits_next_to_any_other_rows(case: Case, rows: int, seed: int, data: st.DataObject) -> None:
    x = drawn_rows(case, rows, seed)
    together = multiply(case, x, threads=2)
    chosen = data.draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=60))
    assert multiply(case, x[chosen]).tobytes() == together[chosen].tobytes()
    row = data.draw(st.sampled_from(chosen))
    assert multiply(case, x[row : row + 1]).tobytes() == together[row].tobytes()


@given(cases, st.integers(1, 130), st.integers(0, 2**32))
@settings(max_examples=60)
def test_avx512_and_avx2_give_the_same_bits(case: Case, rows: int, seed: int) -> None:
    """Both are the same kernel if the processor has no AVX-512."""
    x = drawn_rows(case, rows, seed)
    results = [multiply(case, x, kernels=kernels).tobytes() for kernels in (AVX2, PRECISE, AUTO)]
    assert results[0] == results[1]
    assert is_rounded(case) or results[1] == results[2]


def test_only_bfloat16_with_input_bits_16_is_rounded_and_never_at_high_precision() -> None:
    x = np.random.default_rng(4).standard_normal((9, 576)).astype(np.float32)
    for form in FORMS:
        case = (*form, (33, 576))
        precise = multiply(case, x, kernels=PRECISE).tobytes()
        assert (multiply(case, x).tobytes() != precise) == is_rounded(case)
    with pytest.raises(BundleError, match="input_bits is neither 16 nor 32"):
        opened(model(weights_of(case), 8))


@every_form
def test_each_weight_is_read_exactly(form: tuple[str, int]) -> None:
    """A one among the inputs gives a column of the weights, at every place of a tile."""
    case = (*form, (70, 1537))
    x = np.eye(1537, dtype=np.float32)
    for kernels in (AUTO, AVX2):
        assert np.array_equal(multiply(case, x, kernels=kernels), weights_of(case).astype(np.float32).T)


@every_form
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_input_that_is_not_finite_affects_its_own_row_only(form: tuple[str, int], value: float) -> None:
    case = (*form, (33, 576))
    x = np.random.default_rng(1).standard_normal((9, 576)).astype(np.float32)
    good = multiply(case, x)
    x[4, 500] = value
    spoilt = multiply(case, x)
    assert not np.isfinite(spoilt[4]).all()
    assert np.delete(spoilt, 4, axis=0).tobytes() == np.delete(good, 4, axis=0).tobytes()


@every_form
def test_the_function_gives_the_product_without_infrs_kernels(form: tuple[str, int]) -> None:
    case = (*form, (33, 576))
    x = drawn_rows(case, 5, 1)
    plain = opened(model(weights_of(case), case[1]), kernels=ONNXRUNTIME)
    assert not kernels_of(plain)
    assert (np.abs(plain.run(None, {"x": x[None]})[0][0] - multiply(case, x, kernels=PRECISE)) <= bound(case, x)).all()


def test_no_rows_give_no_output_and_another_width_is_an_error() -> None:
    case = ("bfloat16", 16, (5, 64))
    assert multiply(case, np.empty((0, 64), np.float32)).shape == (0, 5)
    with pytest.raises(Exception, match="the input's last dimension is not that of the weights"):
        multiply(case, np.ones((1, 32), np.float32))
    assert np.isfinite(multiply(case, np.ones((1, 64), np.float32))).all()


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (np.ones((3, 4), np.float64), "weights that are not float32, float16 or bfloat16"),
        (np.ones((3, 4), np.int32), "weights that are not float32, float16 or bfloat16"),
        (np.ones((2, 3, 4), np.float32), "weights that are not a matrix"),
        (np.ones((0, 4), np.float32), "weights of impossible size"),
    ],
    ids=["float64", "int32", "three axes", "no outputs"],
)
def test_impossible_weights_are_refused(weights: npt.NDArray[Any], words: str) -> None:
    with pytest.raises(BundleError, match=words):
        opened(model(weights))
