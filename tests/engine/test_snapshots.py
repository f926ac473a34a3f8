"""States that cannot be truncated: where they are saved, which snapshots stay, and what later requests compute again.

The graph adds each token to a state in place. A token that is missing or counted twice changes all later tokens.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import synthetic
from synthetic import EngineFactory
from test_engine import ask, run, token_ids

from infrs.engine.engine import Engine
from infrs.engine.runners.opening import open_runner
from infrs.engine.runners.runner import Rows, Runner, Segment
from infrs.engine.scheduling.snapshots import Snapshot, choose_number, save_points

EOS = 0
SYSTEM = [*range(1, 30), EOS]
FIRST_TURN = [*SYSTEM, *range(40, 60), EOS]


@pytest.mark.parametrize(
    ("prompt", "alignment", "chunk", "points"),
    [
        ([], 1, 8, ()),
        ([1], 1, 8, ()),
        ([1, 2, EOS], 1, 8, ()),  # a token is left to compute
        ([1, 2, EOS, 3], 1, 8, (3,)),
        ([1, EOS, 2, EOS, 3, EOS, 4], 1, 8, (2, 6)),
        ([1, EOS, *[2] * 20], 1, 8, (2, 16)),
        ([*[2] * 16], 1, 8, (8,)),
        ([*[2] * 17], 1, 8, (16,)),
        ([*[2] * 9, EOS, *[3] * 20, EOS, 4], 8, 8, (8, 24)),  # whole chunks only
        ([1, EOS, 2], 8, 8, ()),
    ],
)
def test_states_are_saved_after_the_first_and_the_last_turn_and_the_last_whole_chunk(
    prompt: list[int], alignment: int, chunk: int, points: tuple[int, ...]
) -> None:
    assert save_points(prompt, {EOS}, alignment, chunk) == points


@pytest.mark.parametrize(
    ("used", "reserved", "number"),
    [
        ([], set(), 0),
        ([(9, 0)], set(), 1),  # a free one
        ([(9, 0), (7, 1), (8, 2)], set(), 1),  # the one that was used longest ago
        ([(9, 0), (7, 1), (8, 2), (10, 1)], set(), 2),  # another slot has it too
        ([(9, 0), (7, 1), (8, 2)], {1}, 2),
        ([(9, 0), (7, 1), (8, 2)], {0, 1, 2}, None),
    ],
)
def test_a_new_snapshot_replaces_the_one_used_longest_ago(
    used: list[tuple[int, int]], reserved: set[int], number: int | None
) -> None:
    assert choose_number(3, [(step, Snapshot(each, 5)) for step, each in used], reserved) == number


@pytest.fixture
def runner(recurrent_bundle: Path) -> Runner:
    """Return a runner with tokens in its rows 0, 1 and 3."""
    made = open_runner(recurrent_bundle, synthetic.manifest(recurrent=True), Rows(4, 32, num_snapshots=2), threads=1)
    made.run([Segment(0, 0, (5, 6, 7)), Segment(1, 0, (11, 12)), Segment(3, 0, (20, 21, 22, 23))])
    return made


def scores(*tokens: int) -> np.ndarray:
    return synthetic.next_logits([*tokens], recurrent=True)


def test_rows_in_one_run_advance_and_an_idle_row_between_them_does_not(runner: Runner) -> None:
    assert not runner.capabilities.truncatable
    assert not runner.capabilities.verifies_drafts
    logits = runner.run([Segment(0, 3, (1,), (0,)), Segment(1, 2, ()), Segment(2, 0, (9,), (0,))])
    np.testing.assert_array_equal(logits, [scores(5, 6, 7, 1), scores(9)])
    np.testing.assert_array_equal(runner.run([Segment(1, 2, (3, 4), (1,))]), [scores(11, 12, 3, 4)])


def test_a_row_that_begins_again_forgets_its_state(runner: Runner) -> None:
    np.testing.assert_array_equal(runner.run([Segment(3, 0, (8,), (0,))]), [scores(8)])
    np.testing.assert_array_equal(runner.run([Segment(3, 0, (8, 9), (0, 1))]), [scores(8), scores(8, 9)])


def test_a_row_continues_from_a_snapshot_of_itself_or_another_row(runner: Runner) -> None:
    runner.store.save(0, 1)
    runner.run([Segment(0, 3, (1, 2), ())])
    runner.store.copy(0, 2, 3, 1)
    runner.store.copy(0, 0, 3, 1)
    np.testing.assert_array_equal(
        runner.run([Segment(0, 3, (9,), (0,)), Segment(1, 2, ()), Segment(2, 3, (4,), (0,))]),
        [scores(5, 6, 7, 9), scores(5, 6, 7, 4)],
    )
    runner.store.copy(3, 2, 4)
    np.testing.assert_array_equal(runner.run([Segment(2, 4, (1,), (0,))]), [scores(20, 21, 22, 23, 1)])


def answers(engine: Engine, *prompts: list[int], max_tokens: int = 4) -> list[int]:
    """Run requests with prompts together, check their answers, and return how many tokens of each were reused."""
    requests = [ask(f"r{number}", prompt, max_tokens, ignore_eos=True) for number, prompt in enumerate(prompts)]
    found = run(engine, *requests)
    for request in requests:
        expected = synthetic.greedy([*request.prompt_ids], max_tokens, recurrent=True)
        assert token_ids(found[request.request_id]) == expected
    return [found[request.request_id][-1].usage.num_reused_tokens for request in requests]


@pytest.mark.parametrize(
    ("exact", "second", "reused"),
    [
        (True, [*FIRST_TURN, 61, 62, 63], 51),  # the template renders the answer otherwise: from the turn's end
        (True, [*FIRST_TURN, *[7] * 20], 51),
        (True, [*SYSTEM, *range(70, 80)], 30),  # another conversation behind the same system prompt
        (True, [*SYSTEM[:20], *range(70, 80)], 0),
        (True, FIRST_TURN, 48),  # its last token must be computed, so it resumes behind the last whole chunk
        (True, [*FIRST_TURN, 61, 62], 51),
        (True, [1, 2, 3], 0),
        (False, [*FIRST_TURN, 61, 62, 63], 48),  # whole chunks
        (False, [*SYSTEM, *range(70, 80)], 24),
    ],
)
def test_a_second_turn_resumes_from_a_snapshot(
    new_engine: EngineFactory, exact: bool, second: list[int], reused: int
) -> None:
    engine = new_engine(num_snapshots=6, capacity=128, chunk_invariant=exact)
    assert answers(engine, [*FIRST_TURN, 61, 62]) == [0]
    assert answers(engine, second) == [reused]


def test_a_turn_that_repeats_the_answer_resumes_behind_it(new_engine: EngineFactory) -> None:
    engine = new_engine(num_snapshots=6, capacity=128, chunk_invariant=True)
    first = [*FIRST_TURN, 61, 62]
    answers(engine, first, max_tokens=9)
    second = [*first, *synthetic.greedy(first, 9, recurrent=True), 5, 6]
    assert answers(engine, second) == [len(first) + 8]  # the last token of an answer is never computed


def test_without_snapshots_only_the_end_of_a_row_is_reused(new_engine: EngineFactory) -> None:
    engine = new_engine(num_snapshots=0, capacity=128, chunk_invariant=True)
    first = [*FIRST_TURN, 61, 62]
    answers(engine, first)
    assert answers(engine, [*first, *synthetic.greedy(first, 4, recurrent=True), 5]) == [len(first) + 3]
    assert answers(engine, first) == [0]


def test_a_step_keeps_the_snapshots_that_its_prefills_need(new_engine: EngineFactory) -> None:
    """The second request could save a snapshot in the step in which the first resumes from the only one."""
    engine = new_engine(num_snapshots=1, capacity=128, chunk_invariant=True, prefill_chunk=64)
    answers(engine, [*SYSTEM, 70])
    engine.submit(ask("a", [*SYSTEM, *[7] * 9], 4, ignore_eos=True, tenant=""))
    engine.submit(ask("b", [3, 4, EOS, *[5] * 50], 4, ignore_eos=True, tenant="other"))
    plan = engine.scheduler.plan()
    assert plan is not None
    by_name = {prefill.sequence.request.request_id: prefill for prefill in plan.prefills}
    assert by_name.keys() == {"a", "b"}
    assert by_name["a"].start == len(SYSTEM)
    numbers = [each.number for prefill in plan.prefills for each in prefill.snapshots or ()]
    assert len(set(numbers)) == len(numbers)
    run(engine)


def test_several_answers_begin_with_the_state_of_their_prompt(new_engine: EngineFactory) -> None:
    engine = new_engine(num_snapshots=4, capacity=128, chunk_invariant=True)
    engine.submit(ask("r", FIRST_TURN, 5, ignore_eos=True, num_choices=3))
    tokens: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for delta in run(engine)["r"]:
        tokens[delta.index] += delta.token_ids
    assert [*tokens.values()] == [synthetic.greedy(FIRST_TURN, 5, recurrent=True)] * 3
