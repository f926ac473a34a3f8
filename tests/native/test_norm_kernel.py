"""SkipSimplifiedLayerNormalization agrees with float64 and with ONNX Runtime's kernel."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_graphs import FLOAT, Floats, graph_of, opened, opened_with_own

from infrs.native.options import ONNXRUNTIME

WIDTHS = [1, 7, 8, 64, 577]
EPSILON = 1e-5


@cache
def session(width: int, threads: int, own: bool = True, with_sum: bool = True) -> ort.InferenceSession:
    gamma = np.random.default_rng(width).standard_normal(width).astype(np.float32)
    inputs: dict[str, Any] = {name: (FLOAT, ["batch", "rows", width]) for name in ("x", "skip")} | {"gamma": gamma}
    shape = ["batch", "rows", width]
    outputs = {"y": shape} | ({"": [], " ": [], "sum": shape} if with_sum else {})
    model = graph_of("SkipSimplifiedLayerNormalization", inputs, outputs, {"epsilon": EPSILON})
    model.graph.node[0].output[:] = [name.strip() for name in model.graph.node[0].output]
    kept = [value for value in model.graph.output if value.name.strip()]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    return opened_with_own(model, threads) if own else opened(model, threads, ONNXRUNTIME)


def drawn(rows: int, width: int, seed: int) -> tuple[Floats, Floats]:
    x, skip = np.random.default_rng(seed).standard_normal((2, 1, rows, width)).astype(np.float32) * 10
    return x, skip


@given(st.sampled_from(WIDTHS), st.integers(1, 130), st.integers(0, 2**32), st.sampled_from([1, 2]), st.data())
@settings(max_examples=40)
def test_the_norm_agrees_with_float64_and_a_row_alone_has_the_same_bits(
    width: int, rows: int, seed: int, threads: int, data: st.DataObject
) -> None:
    x, skip = drawn(rows, width, seed)
    y, added = session(width, threads).run(None, {"x": x, "skip": skip})
    both = x.astype(np.float64) + skip
    gamma = np.random.default_rng(width).standard_normal(width).astype(np.float32)
    np.testing.assert_array_equal(added, x + skip)
    expected = both / np.sqrt((both**2).mean(axis=-1, keepdims=True) + EPSILON) * gamma
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    others = session(width, threads, own=False).run(None, {"x": x, "skip": skip})
    np.testing.assert_allclose(y, others[0], rtol=1e-5, atol=1e-5)
    chosen = data.draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=20))
    part = session(width, 1, with_sum=False).run(None, {"x": x[:, chosen], "skip": skip[:, chosen]})
    assert part[0].tobytes() == y[:, chosen].tobytes()


def test_a_nan_affects_its_own_row_only() -> None:
    x, skip = drawn(5, 64, 0)
    good = session(64, 1).run(None, {"x": x, "skip": skip})[0]
    x[0, 2, 50] = np.nan
    y = session(64, 1).run(None, {"x": x, "skip": skip})[0]
    assert np.isnan(y[0, 2]).all()
    assert np.delete(y, 2, axis=1).tobytes() == np.delete(good, 2, axis=1).tobytes()


def test_no_rows_give_no_output_and_shapes_that_do_not_agree_are_an_error() -> None:
    x, skip = drawn(3, 64, 0)
    assert session(64, 1).run(None, {"x": x[:, :0], "skip": skip[:, :0]})[0].shape == (1, 0, 64)
    with pytest.raises(Exception, match="shapes that do not agree"):
        session(64, 1).run(None, {"x": x, "skip": skip[:, :2]})
