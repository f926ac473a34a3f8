"""When a draft model drafts, and how many tokens: what a run of each size costs, and how many tokens are accepted."""

from __future__ import annotations

import pytest

from infrs.engine.speculation.pace import MAX_DRAFT, Acceptance, choose_pace
from infrs.engine.speculation.timed import Costs


def costs(first: float, further: float = 0.0) -> Costs:
    """Return measured costs of runs of up to nine tokens."""
    made = Costs()
    for size in range(1, MAX_DRAFT + 2):
        made.note(size, first + further * (size - 1))
    return made


@pytest.mark.parametrize(
    ("target", "draft", "rate", "pays"),
    [
        (costs(13, 0.3), costs(3), 0.8, True),  # a model in float32, and itself in int4
        (costs(13, 0.3), costs(3), 0.3, False),
        (costs(13, 13), costs(3), 0.8, False),  # a run of two tokens takes as long as two runs
        (costs(3.5, 0.1), costs(3), 0.99, False),  # int8 is hardly slower than int4
        (costs(13), costs(0.1), 0.3, True),
    ],
)
def test_drafts_that_pay(target: Costs, draft: Costs, rate: float, *, pays: bool) -> None:
    pace = choose_pace(target, draft, rate, 20)
    assert pace.pays == pays
    assert (pace.saved > 0) == pays


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.8, 0.9, 1.0])
def test_no_number_of_tokens_saves_more(rate: float) -> None:
    def seconds(size: int) -> float:
        tokens = sum(rate**place for place in range(size + 1))
        return (size * 2 + 10 + size) / tokens

    pace, best = choose_pace(costs(10, 1), costs(2), rate, 20), min(map(seconds, range(1, MAX_DRAFT + 1)))
    assert pace.pays == (best < 10 / 1.1)
    if pace.pays:
        assert pace.saved == pytest.approx(10 - best)
        assert pace.least == pytest.approx((2 + 1) / (rate * best))  # the next token takes 3, and saves a rate of best


def test_a_run_that_is_not_measured_is_taken_to_cost_little_more_than_a_shorter_one() -> None:
    some = Costs()
    some.note(1, 10.0)
    some.note(4, 20.0)
    assert 10 < some.of(2) < some.of(3) < 12 < some.of(4) == 20 < some.of(5) < 22


def test_an_average_follows_what_is_measured_but_no_single_run() -> None:
    some = Costs()
    some.note(1, 10.0)
    some.note(1, 1000.0)  # another process had the core
    assert some.of(1) < 12
    for _ in range(60):
        some.note(1, 30.0)
    assert some.of(1) == pytest.approx(30, rel=0.05)
    some.note(100, 200.0)
    assert some.of(50) == 100


def test_acceptance_is_learned_and_fades() -> None:
    whole = Acceptance()
    one = Acceptance(whole)
    assert one.rate == pytest.approx(0.8)
    for _ in range(30):
        one.note([0.5] * 4, 0)
    assert one.rate < 0.15
    assert whole.rate > one.rate
    assert Acceptance(whole).rate == whole.rate  # the next sequence begins with what is known
    for _ in range(300):
        one.note([], 0)
    assert one.rate > 0.7  # so it is tried again
    for _ in range(30):
        one.note([0.5] * 4, 4)
    assert one.rate > 0.95


def test_tokens_behind_a_rejected_one_do_not_count() -> None:
    some, other = Acceptance(), Acceptance()
    some.note([0.5] * 8, 2)
    other.note([0.5] * 3, 2)
    assert some.rate == other.rate
    assert some.of(0.5) == other.of(0.5)


def test_acceptance_depends_on_the_probability_in_the_draft_model() -> None:
    whole = Acceptance()
    for _ in range(50):
        whole.note([0.99], 1)
        whole.note([0.1], 0)
    for acceptance in (whole, Acceptance(whole)):
        assert acceptance.of(0.95) > 0.9
        assert acceptance.of(0.05) < 0.15
        assert 0.2 < acceptance.rate < 0.8
