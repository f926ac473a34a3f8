"""GatedQuickGelu, an operator of infrs's own domain, agrees with float64."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_graphs import FLOAT, Floats, graph_of, opened_with_own


@cache
def session(width: int | str, threads: int) -> ort.InferenceSession:
    doubled = 2 * width if isinstance(width, int) else "doubled"
    inputs = {"x": (FLOAT, ["batch", "rows", doubled])}
    model = graph_of("GatedQuickGelu", inputs, {"y": ["batch", "rows", width]}, {})
    model.graph.node[0].domain = "infrs.native"
    model.opset_import[1].domain = "infrs.native"
    return opened_with_own(model, threads)


def gated(x: Floats) -> npt.NDArray[np.float64]:
    opening, value = np.split(x.astype(np.float64), 2, axis=-1)
    return opening / (1 + np.exp(-opening)) * value


@given(st.sampled_from([1, 7, 8, 64, 577]), st.integers(1, 130), st.integers(0, 2**32), st.sampled_from([1, 2]))
@settings(max_examples=40)
def test_the_gate_agrees_with_float64_and_a_row_alone_has_the_same_bits(
    width: int, rows: int, seed: int, threads: int
) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((1, rows, 2 * width)) * 10.0 ** rng.uniform(-3, 2)).astype(np.float32).clip(-80, None)
    y = session(width, threads).run(None, {"x": x})[0]
    np.testing.assert_allclose(y, gated(x), rtol=1e-6, atol=1e-35)
    row = int(rng.integers(rows))
    assert session(width, 1).run(None, {"x": x[:, row : row + 1]})[0].tobytes() == y[:, row].tobytes()


def test_extreme_inputs_give_limits_and_nan_stays_nan() -> None:
    x = np.array([[[-1e30, -100, 100, 1e30, np.nan, 1, *[2.0] * 5, np.nan]]], np.float32)
    y = session(6, 1).run(None, {"x": x})[0][0, 0]
    np.testing.assert_allclose(y[:4], [0, 0, 200, 2e30], rtol=1e-6, atol=1e-6)
    assert np.isnan(y[4:]).all()


def test_no_rows_give_no_output_and_an_odd_width_is_an_error() -> None:
    assert session(64, 1).run(None, {"x": np.empty((1, 0, 128), np.float32)})[0].shape == (1, 0, 64)
    with pytest.raises(Exception, match="a row without two halves"):
        session("half", 1).run(None, {"x": np.ones((1, 1, 7), np.float32)})
