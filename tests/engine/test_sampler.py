"""The sampler gives the candidates and draws of slow and simple references."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from fractions import Fraction
from typing import cast
from unittest import mock

import full_sort
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from infrs.core import SamplingParams
from infrs.engine.sampling import filters, sampler
from infrs.engine.sampling.filters import largest, sums_of_blocks
from infrs.engine.sampling.logits import changes, penalize
from infrs.engine.sampling.sampler import NumericalError, candidates, new_generator, sample
from infrs.native.draws import draw as draw_filtered
from infrs.native.sampling_weights import in_numpy

# Quarters are exact in float32 and make ties likely.
rows = st.lists(st.integers(-40, 40), min_size=1, max_size=400).map(lambda values: np.array(values, np.float32) / 4)
params = st.builds(
    SamplingParams,
    typical_p=st.sampled_from([0.2, 0.9, 1.0, 1.0]),
    temperature=st.sampled_from([0.25, 0.5, 1.0, 2.0]),
    top_p=st.sampled_from([0.01, 0.3, 0.9, 0.999, 1.0]),
    top_k=st.sampled_from([0, 1, 2, 5, 300, 1000]),
    min_p=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    seed=st.integers(0, 2**64 - 1),
)


def reference(logits: np.ndarray, params: SamplingParams) -> dict[int, float]:
    """Return the probability by id after temperature, top_k, typical_p, top_p and min_p, in that order."""
    scores = sorted(((-float(x) / params.temperature, i) for i, x in enumerate(logits)))
    if params.top_k:
        scores = scores[: params.top_k]
    total = math.fsum(math.exp(-s) for s, _ in scores)
    if params.typical_p < 1:
        entropy = math.fsum(math.exp(-s) / total * (s + math.log(total)) for s, _ in scores)
        typical = []
        mass = 0.0
        for item in sorted(scores, key=lambda item: abs(item[0] + math.log(total) - entropy)):
            if mass >= params.typical_p - 1e-6:
                break
            typical.append(item)
            mass += math.exp(-item[0]) / total
        scores = sorted(typical)
        total = math.fsum(math.exp(-s) for s, _ in scores)
    kept: list[tuple[int, float]] = []
    mass = 0.0
    for score, index in scores:
        if params.top_p < 1 and mass >= params.top_p - 1e-6:
            break
        probability = math.exp(-score) / total
        kept.append((index, probability))
        mass += probability
    kept = [(i, p) for i, p in kept if p >= params.min_p * kept[0][1] - 1e-9]
    total = math.fsum(p for _, p in kept)
    return {i: p / total for i, p in kept}


def ids_of(logits: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the ids of candidates. Of equal logits the lowest ids pass, and come first."""
    seen: dict[float, int] = {}
    ids = []
    for value in values.tolist():
        ids.append(np.flatnonzero(logits == value)[seen.get(value, 0)])
        seen[value] = seen.get(value, 0) + 1
    return np.array(ids, np.intp)


@pytest.mark.nightly("sampler, candidates")
@given(rows, params)
def test_candidates_are_those_of_the_reference(logits: np.ndarray, params: SamplingParams) -> None:
    values, weights, _ = candidates(logits, params)
    ids = ids_of(logits, values)
    expected = reference(logits, params)
    # A cumulative probability that meets top_p to the last bits may fall to either side of it.
    assert set(ids[:-1].tolist()) <= set(expected)
    assert abs(len(ids) - len(expected)) <= 1
    if set(ids.tolist()) == set(expected):
        probabilities = weights / weights.sum(dtype=np.float64)
        assert np.allclose(probabilities, [expected[i] for i in ids.tolist()], rtol=1e-4, atol=1e-7)


@pytest.mark.nightly("sampler, seeds")
@given(rows, params)
def test_a_sample_is_a_candidate_and_repeats_with_its_seed(logits: np.ndarray, params: SamplingParams) -> None:
    first, again = (sample(logits, params, new_generator(params.seed)) for _ in range(2))
    assert first == again
    assert logits[first] in candidates(logits, params)[0]


KINDS = [
    "peaked",
    "normal",
    "nearly flat",
    "flat",
    "ties",
    "two values",
    "masked",
    "almost all masked",
    "masked ties",
    "zipf",
    "close",
    "one above close",
]


def drawn_row(kind: str, size: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal(size)
    row = {
        "peaked": 12 * normal,
        "normal": normal,
        "nearly flat": 1e-3 * normal,
        "flat": np.full(size, 2.0),
        "ties": np.round(4 * normal) / 4,
        "two values": np.where(rng.random(size) < 0.3, 1.0, -1.0),
        "masked": np.where(rng.random(size) < 0.1, normal, -np.inf),
        "almost all masked": np.where(rng.random(size) < 3 / size, normal, -np.inf),
        "masked ties": np.where(rng.random(size) < 0.5, np.round(normal), -np.inf),
        "zipf": rng.permutation(-1.2 * np.log(np.arange(1, size + 1))),
        "close": 1e-7 * normal,  # exp of neighbours is not always in their order
        "one above close": np.where(np.arange(size) == size // 2, 9.0, 1e-6 * normal),
    }[kind].astype(np.float32)
    row[rng.integers(size)] = row.max() if np.isfinite(row.max()) else 0
    return row


@pytest.mark.nightly("sampler, full sort")
@given(
    st.sampled_from(KINDS),
    st.sampled_from([1, 2, 200, 257, 3_000, 9_000, 49_152]),
    st.integers(0, 2**32),
    st.builds(
        SamplingParams,
        temperature=st.sampled_from([1e-5, 0.1, 0.7, 1.0, 2.0, 1e4]),
        top_k=st.sampled_from([0, 0, 2, 40, 256, 2_000, 10_000]),
        typical_p=st.sampled_from([1.0, 1.0, 0.05, 0.5, 0.95, 1 - 1e-12]),
        top_p=st.sampled_from([1.0, 1.0, 0.0, 1e-9, 0.25, 0.5, 0.9, 0.999, 1 - 1e-15]),
        min_p=st.sampled_from([0.0, 1e-6, 0.05, 1.0]),
    ),
)
@example("flat", 9_000, 0, SamplingParams(typical_p=0.5, top_p=0.5))  # the sum meets the border to the last bit
@example("ties", 9_000, 0, SamplingParams(typical_p=0.5))
@example("two values", 9_000, 0, SamplingParams(typical_p=0.9, top_k=2_000))
@example("close", 9_000, 0, SamplingParams(typical_p=0.5))
def test_candidates_and_draws_equal_those_of_a_full_sort(
    kind: str, size: int, seed: int, params: SamplingParams
) -> None:
    row = drawn_row(kind, size, seed)
    ids, weights = full_sort.candidates(row, params)
    values, found, sums = candidates(row, params)
    assert found.tobytes() == weights.tobytes()
    assert sums.tobytes() == sums_of_blocks(weights).tobytes()
    assert values.tolist() == row[ids].tolist()
    if params != SamplingParams(temperature=params.temperature):  # some filter is set
        for draw_seed in range(3):
            expected = full_sort.sample(row, params, new_generator(draw_seed))
            assert sample(row, params, new_generator(draw_seed)) == expected
            assert drawn_natively(row, params, new_generator(draw_seed)) in {expected, None}
            with mock.patch.object(sampler, "draw", return_value=None):  # as without the library
                assert sample(row, params, new_generator(draw_seed)) == expected


def drawn_natively(row: np.ndarray, params: SamplingParams, generator: np.random.Generator) -> int | None:
    weights = sampler._weights(row, row.max(), params.temperature)
    filters = params.top_k, params.typical_p, params.top_p, params.min_p
    return draw_filtered(row, weights, filters, params.temperature, generator.random())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "filters",
    [
        {"top_p": 0.95},
        {"min_p": 0.01},
        {"top_k": 9_000},
        {"typical_p": 0.95},
        {"typical_p": 0.9, "top_p": 0.9, "min_p": 0.01, "top_k": 15_000, "temperature": 0.7},
    ],
)
def test_rows_are_drawn_without_a_sort(kind: str, filters: dict[str, float]) -> None:
    params = SamplingParams(**filters)  # type: ignore[arg-type]
    rows = [drawn_row(kind, 20_000, seed) for seed in range(20)]
    drawn = [drawn_natively(row, params, new_generator(seed)) for seed, row in enumerate(rows)]
    assert drawn.count(None) <= 2  # rounding could decide these
    expected = [full_sort.sample(row, params, new_generator(seed)) for seed, row in enumerate(rows)]
    assert [one for one in drawn if one is not None] == [
        one for one, other in zip(expected, drawn, strict=True) if other is not None
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [0.05, 0.7, 1.0, 2.0])
def test_rows_of_a_large_vocabulary_are_drawn_as_after_a_full_sort(kind: str, temperature: float) -> None:
    row = drawn_row(kind, 262_144, 1)
    for settings in (
        {"typical_p": 0.5},
        {"typical_p": 0.95, "top_p": 0.5, "top_k": 200_000, "min_p": 1e-4},
        {"top_p": 0.5, "min_p": 0.2, "top_k": 5_000},
    ):
        params = SamplingParams(temperature=temperature, **settings)  # type: ignore[arg-type]
        expected = full_sort.sample(row, params, new_generator(2))
        assert drawn_natively(row, params, new_generator(2)) in {expected, None}
        assert sample(row, params, new_generator(2)) == expected


@pytest.mark.nightly("sampler, sums in C++ and in NumPy")
@given(st.sampled_from(KINDS), st.sampled_from([1, 257, 9_000]), st.integers(0, 2**32), st.floats(0.01, 0.999))
def test_typical_p_keeps_the_same_with_sums_in_cpp_and_in_numpy(kind: str, size: int, seed: int, share: float) -> None:
    row = drawn_row(kind, size, seed)
    params = SamplingParams(typical_p=share)
    values, *_ = candidates(row, params)
    with mock.patch.object(filters, "weigh_logarithms", in_numpy):
        assert candidates(row, params)[0].tolist() == values.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_the_largest_logits_equal_those_of_a_full_sort(kind: str) -> None:
    row = drawn_row(kind, 9_000, 1)
    for count in (1, 5, 20, 560, 9_000, 10_000):
        assert largest(row, count).tolist() == full_sort.largest(row, count).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_a_top_p_of_zero_keeps_the_most_likely(kind: str) -> None:
    row = drawn_row(kind, 9_000, 1)
    assert sample(row, SamplingParams(top_p=0), new_generator(0)) == row.argmax()


@given(rows)
def test_greedy_takes_the_lowest_of_the_largest(logits: np.ndarray) -> None:
    token_id = sample(logits, SamplingParams(temperature=0), new_generator(0))
    assert token_id == min(i for i, x in enumerate(logits) if x == logits.max())


# The few values give rows with ties. Some are not finite.
steps = st.tuples(st.integers(1, 9), st.integers(1, 40)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.sampled_from([-np.inf, -1, 0, 0.25, 2, 2, 2, np.inf, np.nan]))
)


@pytest.mark.nightly("sampler, rows of a batch")
@given(steps, params, st.sampled_from([0.0, 1.0]))
def test_a_row_with_a_known_best_id_draws_what_it_draws_alone(
    logits: np.ndarray, params: SamplingParams, warmth: float
) -> None:
    params = replace(params, temperature=warmth * params.temperature)

    def drawn(row: np.ndarray, *best: int) -> int | None:
        try:
            return sample(row, params, new_generator(params.seed), *best)
        except NumericalError:
            return None

    best = logits.argmax(axis=1).tolist()
    assert [drawn(row, known) for row, known in zip(logits, best, strict=True)] == [drawn(row) for row in logits]


@given(
    rows,
    st.builds(
        SamplingParams,
        presence_penalty=st.sampled_from([0.0, 0.0, 1.5]),
        frequency_penalty=st.sampled_from([0.0, 0.0, 0.5]),
        repetition_penalty=st.sampled_from([1.0, 1.0, 1.3]),
        logit_bias=st.sampled_from([(), (), ((0, 50.0),)]),  # more than the penalties can take
    ),
)
def test_changes_is_true_where_a_request_changes_scores(logits: np.ndarray, params: SamplingParams) -> None:
    logits += 20  # none is 0, which a repetition penalty does not change
    edited = logits.copy()
    penalize(edited, params, (), {0: 1})
    assert changes(params) == (not np.array_equal(edited, logits))


@pytest.mark.parametrize("filters", [{}, {"top_k": 3}, {"top_p": 0.8}, {"min_p": 0.3}])
def test_frequencies_match_the_probabilities(filters: dict[str, float]) -> None:
    logits = np.array([0.0, 1.0, 2.0, -1.0, 1.5], np.float32)
    params = SamplingParams(temperature=0.8, **filters)  # type: ignore[arg-type]
    generator = new_generator(1)
    count = 20_000
    drawn = np.bincount([sample(logits, params, generator) for _ in range(count)], minlength=5) / count
    expected = reference(logits, params)
    for token_id in range(5):
        probability = expected.get(token_id, 0.0)
        assert abs(drawn[token_id] - probability) <= 5 * math.sqrt(probability * (1 - probability) / count)


def test_a_nucleus_of_half_the_vocabulary_is_complete() -> None:
    logits = np.zeros(5_000, np.float32)
    values, *_ = candidates(logits, SamplingParams(top_p=0.5))
    assert ids_of(logits, values).tolist() == list(range(2_500))


class Uniform:
    """A generator that draws the same number each time."""

    def __init__(self, number: float) -> None:
        self.number = number

    def random(self) -> float:
        return self.number


def draw(logits: np.ndarray, uniform: float) -> int:
    return sample(logits, SamplingParams(), cast(np.random.Generator, Uniform(uniform)))


@given(st.integers(1, 1_200), st.sampled_from([0.002, 0.1, 1.0]), st.integers(0, 2**32), st.data())
def test_a_draw_from_a_whole_vocabulary_inverts_its_distribution(
    size: int, share: float, seed: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    logits = np.where(rng.random(size) < share, rng.integers(-40, 40, size) / 4, -np.inf).astype(np.float32)
    logits[rng.integers(size)] = 1
    cumulative = list(itertools.accumulate(map(Fraction, np.exp(logits - logits.max()).tolist())))
    whole = cumulative[-1]
    borders = st.sampled_from(cumulative).map(lambda border: min(float(border / whole), 1 - 2**-53))
    uniform = data.draw(st.one_of(st.floats(0, 1, exclude_max=True), borders))
    place = draw(logits, uniform)
    assert np.isfinite(logits[place])  # an excluded id is never drawn
    # A sum in float64 that meets a border to the last bits may fall to either side of it.
    slack = whole / 2**40
    assert (cumulative[place - 1] if place else 0) - slack <= Fraction(uniform) * whole <= cumulative[place] + slack


@pytest.mark.parametrize(("first", "last"), [(0, 0), (255, 256), (300, 511), (512, 999), (999, 999)])
def test_only_ids_with_weight_are_drawn(first: int, last: int) -> None:
    logits = np.full(1_000, -np.inf, np.float32)
    logits[[first, last]] = 0
    assert draw(logits, 0.0) == first
    assert draw(logits, 0.5) == last
    assert draw(logits, 1 - 2**-53) == last


def test_rounding_in_a_block_draws_no_id_of_a_later_block() -> None:
    for seed in range(50):  # a block's sum may exceed that of its places by the last bit
        logits = np.full(1_000, -np.inf, np.float32)
        logits[:256] = np.random.default_rng(seed).normal(0, 20, 256)
        assert draw(logits, 1 - 2**-53) < 256


def test_a_tiny_temperature_is_greedy_without_overflow() -> None:
    logits = np.array([1.0, 3.0, 2.0], np.float32)
    assert sample(logits, SamplingParams(temperature=1e-40, seed=1), new_generator(1)) == 1


@pytest.mark.parametrize("bad", [[np.nan, 1.0], [np.inf, 1.0], [-np.inf, -np.inf]])
def test_scores_that_are_not_finite_are_an_error(bad: list[float]) -> None:
    with pytest.raises(NumericalError):
        sample(np.array(bad, np.float32), SamplingParams(), new_generator(0))
