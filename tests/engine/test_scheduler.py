"""The plan of a step: its chunks, copies and idle rows, which answers do not show."""

from __future__ import annotations

from dataclasses import replace

import pytest
from synthetic import EngineFactory
from test_engine import ask

from infrs.engine.engine import Engine
from infrs.engine.scheduling.plan import StepPlan


def planned(engine: Engine) -> StepPlan:
    plan = engine.scheduler.plan()
    assert plan is not None
    return plan


def chunks(plan: StepPlan) -> list[tuple[str, int, int]]:
    return [(prefill.sequence.request.request_id, prefill.start, prefill.end) for prefill in plan.prefills]


@pytest.mark.parametrize(("num_rows", "cached", "position"), [(1, 0, 0), (3, 0, 0), (3, 16, 16)])
def test_a_lone_row_is_decoded_with_an_idle_row(
    new_engine: EngineFactory, num_rows: int, cached: int, position: int
) -> None:
    """The idle row is written after its cached tokens, or is the row after the last one."""
    engine = new_engine(num_rows=num_rows, min_rows=2)
    slots = engine.scheduler.placement.slots
    for row in range(1, num_rows):
        slots[row] = replace(slots[row], cached=(7,) * cached * row)
    engine.submit(ask("a", [1, 2, 3], ignore_eos=True))
    engine.step()
    [sequence] = engine.scheduler.running
    decode = planned(engine).decode
    assert decode is not None
    assert (decode.first, decode.rows, decode.positions) == (0, (sequence, None), (3, position))


def test_a_prefilling_row_between_others_is_written_after_its_computed_tokens(new_engine: EngineFactory) -> None:
    engine = new_engine(num_rows=3, prefill_chunk=8)
    for name, max_tokens in (("a", 20), ("short", 2), ("c", 20)):
        engine.submit(ask(name, [len(name)], max_tokens, ignore_eos=True))
    while len(engine.scheduler.running) != 2 or engine.scheduler.waiting:
        engine.step()
    engine.submit(ask("long", [5] * 30))
    engine.step()
    decode = planned(engine).decode
    assert decode is not None
    assert [sequence and sequence.request.request_id for sequence in decode.rows] == ["a", None, "c"]
    assert decode.positions[1] == 8


@pytest.mark.parametrize(
    ("exact", "expected"),
    [
        (False, [[("a", 0, 3)], [("b", 0, 8)], [("b", 8, 12)]]),
        (True, [[("a", 0, 3), ("b", 0, 5)], [("b", 5, 12)]]),
    ],
)
def test_a_chunk_is_cut_only_where_that_changes_no_bit(
    new_engine: EngineFactory, exact: bool, expected: list[list[tuple[str, int, int]]]
) -> None:
    engine = new_engine(prefill_chunk=8, chunk_invariant=exact)
    for name, prompt in (("a", [1, 2, 3]), ("b", [4] * 12)):
        engine.submit(ask(name, prompt, 1))
    for step_chunks in expected:
        assert chunks(planned(engine)) == step_chunks
        engine.step()
    assert engine.scheduler.is_idle


@pytest.mark.parametrize("exact", [False, True])
def test_answers_of_a_request_wait_for_the_one_that_computes_their_prompt(
    new_engine: EngineFactory, exact: bool
) -> None:
    engine = new_engine(prefill_chunk=8, chunk_invariant=exact)
    engine.submit(ask("a", [1, 2], num_choices=3))
    plan = planned(engine)
    assert chunks(plan) == [("a", 0, 2)]
    assert [copy.target for copy in plan.prefills[0].siblings] == [1, 2]
    assert len(plan.placement.running) == 3


@pytest.mark.parametrize(("exact", "expected"), [(False, [("a", 0, 8)]), (True, [("b", 0, 3), ("a", 0, 5)])])
def test_tenants_share_a_step_only_where_a_chunk_may_be_cut(
    new_engine: EngineFactory, exact: bool, expected: list[tuple[str, int, int]]
) -> None:
    engine = new_engine(prefill_chunk=8, chunk_invariant=exact)
    engine.submit(ask("a", [1] * 30, tenant="long"))
    engine.submit(ask("b", [2] * 3, tenant="short"))
    assert chunks(planned(engine)) == expected
