"""ShortConvolution and Softplus, operators of infrs's own domain, agree with float64."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import onnxruntime as ort
import pytest
from convolution_graph import FORMS, Form, drawn, exact, model, session
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_graphs import FLOAT, Floats, graph_of, opened_with_own

Feeds = dict[str, Floats]


def run(form: Form, feeds: Feeds, threads: int = 1) -> tuple[Floats, Floats]:
    y, present = session(form, threads).run(None, feeds)
    return y, present


def in_pieces(form: Form, feeds: Feeds, cuts: list[int]) -> tuple[Floats, Floats]:
    """Run the tokens between cuts, the present fed back as the past."""
    pieces, past = [], feeds["past"]
    for start, end in pairwise(cuts):
        y, past = run(form, feeds | {"x": feeds["x"][:, start:end], "past": past})
        pieces.append(y)
    return np.concatenate(pieces, axis=1), past


@given(st.sampled_from(FORMS), st.integers(1, 5), st.integers(1, 40), st.integers(0, 2**32), st.sampled_from([1, 2]))
@settings(max_examples=40)
def test_a_convolution_agrees_with_float64_and_has_the_same_bits_alone_and_in_pieces(
    form: Form, rows: int, tokens: int, seed: int, threads: int
) -> None:
    feeds = drawn(form, rows, tokens, seed)
    y, present = run(form, feeds, threads)
    np.testing.assert_allclose(y, exact(form, feeds), rtol=1e-5, atol=2e-6)
    inputs = np.concatenate([feeds["past"], feeds["x"]], axis=1)
    np.testing.assert_array_equal(present, inputs[:, tokens:])
    rng = np.random.default_rng(seed)
    row = int(rng.integers(rows))
    alone = run(form, {name: array[row : row + 1] for name, array in feeds.items()})
    assert (alone[0].tobytes(), alone[1].tobytes()) == (y[row].tobytes(), present[row].tobytes())
    cuts = sorted({0, tokens, *rng.integers(0, tokens + 1, 3).tolist()})
    pieces = in_pieces(form, feeds, cuts)
    assert (pieces[0].tobytes(), pieces[1].tobytes()) == (y.tobytes(), present.tobytes())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("tokens", [1, 2, 11])
def test_the_state_is_updated_in_place_and_an_idle_row_keeps_its_bits(form: Form, tokens: int) -> None:
    feeds = drawn(form, 3, tokens, 1)
    feeds["past"][1, 0] = -0.0
    feeds["active"][1] = 0
    expected = run(form, feeds | {"active": np.ones((3, 1, 1), np.float32)})[1]
    state = feeds["past"].copy()
    binding = session(form, 1).io_binding()
    for name in ("x", "active"):
        binding.bind_cpu_input(name, feeds[name])
    binding.bind_input("past", "cpu", 0, np.float32, state.shape, state.ctypes.data)
    binding.bind_output("present", "cpu", 0, np.float32, state.shape, state.ctypes.data)
    binding.bind_output("y")
    session(form, 1).run_with_iobinding(binding)
    assert state[1].tobytes() == feeds["past"][1].tobytes()
    np.testing.assert_array_equal(state[[0, 2]], expected[[0, 2]])


@pytest.mark.parametrize(
    ("name", "shape"),
    [("x", (2, 3, 47)), ("past", (2, 2, 48)), ("past", (1, 3, 48)), ("active", (1, 1, 1)), ("active", (2, 2, 1))],
)
def test_shapes_that_do_not_agree_are_an_error(name: str, shape: tuple[int, ...]) -> None:
    made = model(Form())
    for value in [*made.graph.input, *made.graph.output]:
        for axis, size in enumerate(value.type.tensor_type.shape.dim):
            size.dim_param = f"{value.name}{axis}"
    feeds = drawn(Form(), 2, 3, 0) | {name: np.zeros(shape, np.float32)}
    with pytest.raises(Exception, match="ShortConvolution: shapes that do not agree"):
        opened_with_own(made).run(None, feeds)


@cache
def softplus_session() -> ort.InferenceSession:
    made = graph_of("Softplus", {"x": (FLOAT, ["numbers"])}, {"y": ["numbers"]}, {})
    made.graph.node[0].domain = made.opset_import[1].domain = "infrs.native"
    return opened_with_own(made)


def softplus(x: Floats) -> Floats:
    y: Floats = softplus_session().run(None, {"x": x})[0]
    return y


def test_softplus_agrees_with_float64_and_a_number_has_the_same_bits_at_every_place() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-87, 87, 20_000), rng.standard_normal(20_000), np.linspace(-1, 1, 4_001)])
    x = x.astype(np.float32)
    y = softplus(x)
    wide = x.astype(np.float64)
    exact_y = np.maximum(wide, 0) + np.log1p(np.exp(-np.abs(wide)))
    assert (np.abs(y - exact_y) / np.spacing(exact_y.astype(np.float32))).max() < 4
    for start in range(1, 9):
        assert softplus(x[start:]).tobytes() == y[start:].tobytes()


def test_softplus_of_extreme_numbers_is_a_limit_and_nan_stays_nan() -> None:
    x = np.array([-np.inf, -1e30, -200, 0, 200, 1e30, np.inf, np.nan], np.float32)
    np.testing.assert_allclose(softplus(x)[:7], [0, 0, 0, np.log(2), 200, 1e30, np.inf], rtol=1e-6)
    assert np.isnan(softplus(x)[7])
