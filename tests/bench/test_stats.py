"""Figures against numpy, and arrivals, turns and workloads by what defines them."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infrs.bench.arrivals import poisson
from infrs.bench.client import Sample
from infrs.bench.run import turns
from infrs.bench.stats import Limits, figures, percentile, ratio, spread
from infrs.bench.workload import Conversation, Shape, WorkloadError, read_prompts, synthetic, take

FINITE = st.floats(0, 1e6)


@given(st.lists(FINITE, min_size=1, max_size=50), st.floats(0, 100))
def test_percentiles_are_numpys(values: list[float], percent: float) -> None:
    assert percentile(values, percent) == pytest.approx(float(np.percentile(values, percent)), rel=1e-9, abs=1e-9)


def test_a_spread() -> None:
    assert spread(float(value) for value in range(101)) == {"p50": 50, "p90": 90, "p99": 99, "max": 100}
    assert spread([]) == {}


def sample(due: float, arrivals: list[float], num_output: int, error: str | None = None) -> Sample:
    return Sample(due, due, arrivals[-1] if arrivals else due, arrivals, 10, num_output, "", error)


def test_figures_of_a_round() -> None:
    samples = [
        sample(0.0, [1.0, 1.5, 2.0], 5),  # first 1.0, 0.25 a token
        sample(1.0, [1.5, 3.5, 4.0], 6),  # first 0.5, 0.5 a token
        sample(2.0, [], 0, error="boom"),
    ]
    found = figures(samples, Limits(first=0.8))
    assert (found.requests, found.errors, found.seconds) == (3, 1, 4.0)
    assert (found.requests_per_s, found.input_per_s, found.output_per_s) == (0.5, 5.0, 11 / 4)
    assert found.goodput == 0.25
    assert (found.first["p50"], found.per_token["p50"], found.total["max"]) == (0.75, 0.375, 3.0)
    assert found.gap["max"] == 2.0
    assert found.value("first.p50") == 0.75
    assert math.isnan(figures(samples[2:], Limits()).value("first.p50"))


@pytest.mark.parametrize(
    ("limits", "met"),
    [
        (Limits(), True),
        (Limits(first=1.0, per_token=0.25, total=2.0), True),
        (Limits(first=0.99), False),
        (Limits(per_token=0.24), False),
        (Limits(total=1.99), False),
    ],
)
def test_limits(limits: Limits, met: bool) -> None:
    assert limits.met(sample(0.0, [1.0, 1.5, 2.0], 5)) is met
    assert not limits.met(sample(0.0, [1.0], 1, error="late"))


def test_a_ratio_is_of_medians_with_the_spread_of_the_rounds() -> None:
    more = ratio([20, 30, 40], [10, 10, 40])
    assert more is not None
    assert (more.median, more.low, more.high) == (3.0, 1.0, 3.0)
    less = ratio([1, 2, 4], [2, 6, 4], more_is_better=False)
    assert less is not None
    assert (less.median, less.low, less.high) == (2.0, 1.0, 3.0)
    assert ratio([1.0, math.nan], [1.0, 1.0]) is None
    assert ratio([1.0], [0.0]) is None


def test_poisson_arrivals_have_exponential_gaps_and_a_seed() -> None:
    times = poisson(50, 4000, seed=3)
    gaps = [later - earlier for earlier, later in zip([0.0, *times], times, strict=False)]
    assert min(gaps) >= 0
    assert statistics.mean(gaps) == pytest.approx(1 / 50, rel=0.06)
    assert statistics.stdev(gaps) == pytest.approx(1 / 50, rel=0.08)  # an exponential's deviation is its mean
    assert sum(gap > 1 / 50 for gap in gaps) / 4000 == pytest.approx(math.exp(-1), abs=0.03)
    assert poisson(50, 10, seed=3) == times[:10]
    assert poisson(50, 10, seed=4) != times[:10]


@given(st.integers(1, 7), st.integers(1, 5))
def test_servers_take_turns_and_each_goes_first_as_often(num_rounds: int, num_targets: int) -> None:
    order = list(turns(num_rounds * num_targets, num_targets))
    assert len(set(order)) == len(order) == num_rounds * num_targets**2
    assert [number for number, _ in order] == sorted(number for number, _ in order)
    first = Counter(order[number * num_targets][1] for number in range(num_rounds * num_targets))
    assert set(first.values()) == {num_rounds}


def test_synthetic_conversations_share_their_prefix_and_nothing_else() -> None:
    shape = Shape(input_words=30, prefix_words=200, turns=2)
    talks = synthetic(shape, 5, seed="a")
    assert {talk.system for talk in talks} == {talks[0].system}
    assert len((talks[0].system or "").split()) == 200
    said = [turn for talk in talks for turn in talk.turns]
    assert len(set(said)) == 10
    assert {len(turn.split()) for turn in said} == {30}
    assert synthetic(shape, 5, seed="a") == talks
    assert not {talk.turns for talk in synthetic(shape, 5, seed="b")} & {talk.turns for talk in talks}
    assert synthetic(Shape(), 1, seed=0)[0].system is None


def test_a_prompt_set(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('Why?\n\n{"prompt": "How?"}\n{"turns": ["a", "b"], "system": "s"}\n')
    prompts = read_prompts(path)
    assert prompts == [Conversation(("Why?",)), Conversation(("How?",)), Conversation(("a", "b"), "s")]
    assert take(prompts, 4, 2) == [prompts[2], prompts[0], prompts[1], prompts[2]]


@pytest.mark.parametrize(
    "line", ["{", '{"prompt": 3}', '{"turns": []}', '{"turns": "text"}', '{"prompt": "a", "system": 1}']
)
def test_no_prompt_set(tmp_path: Path, line: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(f"fine\n{line}\n")
    with pytest.raises(WorkloadError, match="line 2"):
        read_prompts(path)
    path.write_text("\n")
    with pytest.raises(WorkloadError, match="no prompt"):
        read_prompts(path)
    with pytest.raises(WorkloadError, match="cannot be read"):
        read_prompts(tmp_path / "absent")
