"""Attention agrees with float64, and a token's bits depend neither on its run nor on other rows."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from attention_graph import POSITIONS, Form, Rows, drawn, in_8_bits, model, reference, sinks_of, whole
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_graphs import Floats, opened
from onnx import numpy_helper

from infrs.bundle.states import DTYPE_BYTES
from infrs.native.options import AUTO, AVX2, ONNXRUNTIME, KernelOptions, StoredDtype

FORMS = {
    "one head": Form(heads=1, rotary=4),
    "three heads a key": Form(heads=3, dim=64, rotary=32),
    "eight heads a key": Form(heads=16, kv_heads=2, dim=80, rotary=40, scale=0.2),
    "more heads a key than a tile": Form(heads=64, dim=8, rotary=4),
    "as many keys as heads": Form(heads=4, kv_heads=4, dim=128, rotary=64),
    "wide": Form(heads=2, dim=256, rotary=128),
    "odd dim": Form(heads=3, dim=40),
    "no rotation": Form(heads=2, dim=64, packed=False),
    "partly rotated": Form(heads=4, kv_heads=2, dim=80, rotary=16),
    "interleaved": Form(heads=4, kv_heads=2, dim=64, rotary=32, interleaved=True, packed=False),
    "partly interleaved": Form(heads=2, dim=64, rotary=8, interleaved=True),
    "softcap": Form(heads=3, dim=64, rotary=32, softcap=2.5, scale=0.5),
    "softcap of large scores": Form(heads=2, dim=64, softcap=1.0, scale=4.0),
    "window": Form(heads=6, kv_heads=2, dim=16, rotary=8, window=37),
    "wide window": Form(heads=3, dim=16, rotary=8, window=300),
    "window of one": Form(heads=3, dim=8, window=1),
    "sinks": Form(heads=6, kv_heads=2, dim=64, rotary=32, sinks=True),
    "sinks and a window": Form(heads=4, dim=16, window=37, packed=False, sinks=True),
    "sinks of a softcap": Form(heads=2, dim=64, softcap=2.5, scale=0.5, sinks=True),
}
forms = st.sampled_from(list(FORMS.values()))
threads_used = st.sampled_from([1, 2, 7])  # they decide how the work is split
kv_dtypes = st.sampled_from([*DTYPE_BYTES])


def close(result: Floats, expected: npt.NDArray[np.float64], tolerance: float = 2e-5) -> None:
    np.testing.assert_allclose(result, expected, rtol=10 * tolerance, atol=tolerance)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("tokens", [1, 2, 9, 290, 600])
def test_a_whole_row_agrees_with_float64(form: Form, tokens: int) -> None:
    new = drawn(form, tokens, seed=tokens)
    close(whole(form, new), reference(form, new))


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("tokens", [1, 9, 600])
def test_keys_and_values_in_16_bits_are_close(form: Form, tokens: int) -> None:
    """A half has 11 significant bits, so values and scores have relative errors of at most 2^-12."""
    new = drawn(form, tokens, seed=tokens)
    close(whole(form, new, kv_dtype="float16"), reference(form, new), 2e-3)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("tokens", [1, 9, 600])
def test_keys_and_values_in_8_bits_are_those_of_the_formula(form: Form, tokens: int) -> None:
    """Each key and value has 255 levels of its own: the largest magnitude, divided by 127."""
    new = drawn(form, tokens, seed=tokens)
    result = whole(form, new, kv_dtype="int8")
    close(result, reference(form, new, stored=in_8_bits), 1e-3)
    close(result, reference(form, new), 5e-2)


@given(
    st.sampled_from([form for form in FORMS.values() if not form.rotary]),
    st.sampled_from([1, 8, 257, 300, 600]),
    st.integers(0, 99),
    st.sampled_from([1e-6, 1, 30]),
)
@settings(max_examples=40)
def test_keys_and_values_that_16_bits_hold_exactly_give_the_bits_of_32(
    form: Form, tokens: int, seed: int, size: float
) -> None:
    new = (drawn(form, tokens, seed) * np.float32(size)).astype(np.float16).astype(np.float32)
    assert whole(form, new, kv_dtype="float16").tobytes() == whole(form, new).tobytes()


@pytest.mark.parametrize(("value", "stored"), [(1e6, 65504.0), (-1e6, -65504.0), (65519.0, 65504.0), (1 + 2**-11, 1.0)])
def test_a_value_that_16_bits_do_not_hold_is_rounded_to_a_finite_half(value: float, stored: float) -> None:
    form = FORMS["window of one"]
    new = drawn(form, 1, seed=1)
    new[0, -form.dim :] = value
    np.testing.assert_array_equal(whole(form, new, kv_dtype="float16"), np.float32(stored))


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("kv_dtype", ["float16", "int8"])
def test_a_value_that_is_not_finite_stays_so(kv_dtype: StoredDtype, value: float) -> None:
    form = FORMS["window of one"]
    new = drawn(form, 9, seed=1)
    new[4, -form.dim :] = value
    result = whole(form, new, kv_dtype=kv_dtype)
    assert [bool(np.isfinite(token).all()) for token in result] == [place != 4 for place in range(9)]


@given(forms, st.integers(1, 600), st.integers(0, 99), st.sampled_from([0.1, 1, 30]), kv_dtypes)
@settings(max_examples=50)
def test_avx512_and_avx2_give_the_same_bits(
    form: Form, tokens: int, seed: int, size: float, kv_dtype: StoredDtype
) -> None:
    """Both are the same kernel if the processor has no AVX-512."""
    new = drawn(form, tokens, seed) * np.float32(size)
    narrow = whole(form, new, kernels=AVX2, kv_dtype=kv_dtype)
    assert whole(form, new, kv_dtype=kv_dtype).tobytes() == narrow.tobytes()


def with_sinks(form: Form, tokens: Floats, sinks: Floats, kernels: KernelOptions = AUTO) -> Floats:
    """Return the outputs of a whole row with other sinks than those of the form."""
    graph = model(form)
    (tensor,) = (tensor for tensor in graph.graph.initializer if tensor.name == "sinks")
    tensor.CopyFrom(numpy_helper.from_array(sinks, "sinks"))
    cache = np.zeros((1, form.kv_heads, -(-len(tokens) // 8) * 8, form.dim), np.float32)
    last = len(tokens) - 1
    feeds = {"query": tokens[None], "past_key": cache, "past_value": cache, "lengths": np.array([last], np.int32)}
    result = opened(graph, kernels=kernels).run(None, feeds | {"total": np.array(last + 1, np.int32)})
    return np.asarray(result[0][0])


@pytest.mark.parametrize("name", ["sinks", "sinks of a softcap"])
def test_sinks_are_those_of_onnx_runtime(name: str) -> None:
    form = FORMS[name]
    new, sinks = drawn(form, 40, seed=1), sinks_of(form)
    own, exact = (with_sinks(form, new, sinks, kernels) for kernels in (AUTO, ONNXRUNTIME))
    np.testing.assert_allclose(own, exact, rtol=1e-4, atol=1e-5)


def test_sinks_of_minus_infinity_give_the_bits_of_no_sinks() -> None:
    form = FORMS["sinks"]
    new = drawn(form, 600, seed=1)
    absent = with_sinks(form, new, np.full(form.heads, -np.inf, np.float32))
    assert absent.tobytes() == whole(replace(form, sinks=False), new).tobytes()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_sink_that_is_not_finite_affects_its_own_head_only(value: float) -> None:
    form = FORMS["sinks"]
    new, sinks = drawn(form, 30, seed=1), sinks_of(form)
    good = with_sinks(form, new, sinks).reshape(30, form.heads, form.dim)
    sinks[4] = value
    spoilt = with_sinks(form, new, sinks).reshape(30, form.heads, form.dim)
    assert np.isnan(spoilt[:, 4]).all()
    assert np.delete(spoilt, 4, axis=1).tobytes() == np.delete(good, 4, axis=1).tobytes()


@pytest.mark.parametrize("shape", [(5,), (7,), (1, 6), ()])
def test_other_sinks_than_one_for_each_head_are_an_error(shape: tuple[int, ...]) -> None:
    form = FORMS["sinks"]
    with pytest.raises(Exception, match="GroupQueryAttention: not one sink for each head"):
        with_sinks(form, drawn(form, 3, seed=1), np.zeros(shape, np.float32))


def in_runs(rows: Rows, row: int, new: Floats, cuts: list[int]) -> Floats:
    """Run a row's tokens in several runs that begin at `cuts`, and return all outputs."""
    return np.concatenate([rows.run(row, new[None, a:b], [a])[0] for a, b in pairwise([*cuts, len(new)])])


@st.composite
def cut(draw: st.DrawFn, tokens: int) -> list[int]:
    """Draw where the runs of a row begin: a few long ones, then perhaps single tokens, as in a server."""
    cuts = {0, *draw(st.lists(st.integers(0, tokens - 1), max_size=6))}
    one_by_one = draw(st.integers(0, min(tokens, 40)))
    start = draw(st.sampled_from([0, 256 - 20, 512 - 20, tokens - one_by_one]))
    return sorted(cuts | {place for place in range(start, start + one_by_one) if place < tokens})


@given(forms, st.sampled_from([1, 7, 64, 257, 300, 513, 640]), st.integers(0, 99), threads_used, st.data())
@settings(max_examples=60)
def test_a_token_has_the_same_bits_however_its_row_is_split_into_runs(
    form: Form, tokens: int, seed: int, threads: int, data: st.DataObject
) -> None:
    new = drawn(form, tokens, seed)
    capacity = -(-tokens // 8) * 8 + data.draw(st.sampled_from([0, 8, 96]))
    kv_dtype = data.draw(kv_dtypes)
    rows = Rows(form, 2, capacity, threads=threads, in_place=data.draw(st.booleans()), kv_dtype=kv_dtype)
    result = in_runs(rows, 1, new, data.draw(cut(tokens)))
    assert result.tobytes() == whole(form, new, kv_dtype=kv_dtype).tobytes()


@given(forms, st.lists(st.integers(1, 560), min_size=1, max_size=5), threads_used, st.booleans(), kv_dtypes)
@settings(max_examples=40)
def test_rows_that_decode_together_have_the_bits_of_rows_that_decode_alone(
    form: Form, lengths: list[int], threads: int, in_place: bool, kv_dtype: StoredDtype
) -> None:
    """The rows have different lengths and get 20 more tokens each, in common runs."""
    more = 20
    row_tokens = [drawn(form, length + more, seed) for seed, length in enumerate(lengths)]
    rows = Rows(form, len(lengths) + 1, 584, threads=threads, in_place=in_place, kv_dtype=kv_dtype)
    for row, (new, length) in enumerate(zip(row_tokens, lengths, strict=True), start=1):
        rows.run(row, new[None, :length], [0])
    steps = []
    for step in range(more):
        starts = [length + step for length in lengths]
        steps.append(
            rows.run(
                1, np.stack([new[start : start + 1] for new, start in zip(row_tokens, starts, strict=True)]), starts
            )
        )
    together = np.concatenate(steps, axis=1)
    for new, length, result in zip(row_tokens, lengths, together, strict=True):
        assert result.tobytes() == whole(form, new, kv_dtype=kv_dtype)[length:].tobytes()


def test_a_run_of_several_tokens_for_several_rows_gives_the_bits_of_each_row_alone() -> None:
    form = FORMS["window"]
    row_tokens = np.stack([drawn(form, 90, seed) for seed in range(3)])
    rows = Rows(form, 3, 96, threads=2)
    result = np.concatenate(
        [rows.run(0, row_tokens[:, :60], [0] * 3), rows.run(0, row_tokens[:, 60:], [60] * 3)], axis=1
    )
    for new, row in zip(row_tokens, result, strict=True):
        assert row.tobytes() == whole(form, new).tobytes()


@pytest.mark.parametrize("place", [0, 100, 299])
@pytest.mark.parametrize("kv_dtype", DTYPE_BYTES)
def test_a_nan_key_makes_every_token_that_attends_to_it_nan(kv_dtype: StoredDtype, place: int) -> None:
    """The engine looks for NaN in the logits, so attention must not lose one."""
    form = FORMS["three heads a key"]
    new = drawn(form, 300, seed=1)
    good = whole(form, new, kv_dtype=kv_dtype)
    new[place, form.widths[0] : form.widths[0] + form.dim] = np.nan  # its key
    result = whole(form, new, kv_dtype=kv_dtype)
    assert result[:place].tobytes() == good[:place].tobytes()
    assert np.isnan(result[place:]).all()


def test_large_scores_do_not_overflow() -> None:
    form = Form(heads=3, dim=64, scale=100.0)
    new = drawn(form, 300, seed=2)
    close(whole(form, new), reference(form, new), 2e-3)  # the float32 error of a score of 2000 is 1e-4


@pytest.mark.parametrize("kv_dtype", DTYPE_BYTES)
def test_a_row_can_fill_its_capacity_but_not_exceed_it(kv_dtype: StoredDtype) -> None:
    form = FORMS["three heads a key"]
    rows = Rows(form, 1, 16, kv_dtype=kv_dtype)
    new = drawn(form, 17, seed=3)
    result = rows.run(0, new[None, :16], [0])
    for tokens, start in [(1, 16), (2, 15), (17, 0), (1, 2**31 - 2)]:
        with pytest.raises(Exception, match="a row beyond its capacity"):
            rows.run(0, new[None, :tokens], [start])
    assert rows.run(0, new[None, 15:16], [15]).tobytes() == result[:, 15:].tobytes()


def test_a_position_beyond_the_rotary_tables_is_an_error() -> None:
    form = FORMS["one head"]
    rows = Rows(form, 1, POSITIONS + 8)
    rows.run(0, drawn(form, POSITIONS, seed=4)[None], [0])
    with pytest.raises(Exception, match="a row beyond its capacity"):
        rows.run(0, drawn(form, 1, seed=4)[None], [POSITIONS])


@pytest.mark.parametrize(
    ("capacity", "tokens", "start", "message"),
    [
        (12, 1, 0, "a capacity that is not a multiple of 8"),
        (16, 3, -1, "a row shorter than its new tokens"),
        (0, 1, 0, "a row beyond its capacity"),
    ],
)
def test_an_impossible_capacity_or_length_is_an_error(capacity: int, tokens: int, start: int, message: str) -> None:
    form = FORMS["no rotation"]
    with pytest.raises(Exception, match=message):
        Rows(form, 1, capacity).run(0, drawn(form, tokens, seed=5)[None], [start])


def test_shapes_that_do_not_agree_are_an_error() -> None:
    form = FORMS["no rotation"]
    rows = Rows(form, 1, 16)
    cache = np.zeros((1, 1, 16, 64), np.float32)
    feeds = {
        "query": np.zeros((1, 2, 128), np.float32),
        "key": np.zeros((1, 2, 64), np.float32),
        "value": np.zeros((1, 2, 64), np.float32),
        "past_key": cache,
        "past_value": cache,
        "lengths": np.ones(1, np.int32),
        "total": np.array(2, np.int32),
    }
    rows.session.run(None, feeds)
    wrong = {
        "key": np.zeros((1, 1, 64), np.float32),
        "value": np.zeros((2, 2, 64), np.float32),
        "past_value": cache[:, :, :8],
        "lengths": np.ones(2, np.int32),
    }
    for name, array in wrong.items():
        with pytest.raises(Exception, match="shapes that do not agree"):
            rows.session.run(None, feeds | {name: array})


@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
def test_a_run_without_rows_or_tokens_returns_an_empty_output(shape: tuple[int, int]) -> None:
    form = FORMS["three heads a key"]
    rows = Rows(form, 2, 16)
    new = np.zeros((*shape, sum(form.widths)), np.float32)
    feeds = {
        "query": new,
        "past_key": rows.kept[0][: shape[0]],
        "past_value": rows.kept[1][: shape[0]],
        "lengths": np.zeros(shape[0], np.int32),
        "total": np.array(1, np.int32),
    }
    assert rows.session.run(None, feeds)[0].shape == (*shape, form.widths[0])
