"""A spare row keeps the cached tokens that a row loses, where that is worth a copy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from synthetic import EngineFactory

from infrs.engine.scheduling.plan import Copy
from infrs.engine.scheduling.planner import Planner

ROW, SPARE, OTHER_SPARE = 0, 2, 3
CACHED = tuple(range(100))


@pytest.fixture
def planner(new_engine: EngineFactory) -> Planner:
    scheduler = new_engine(num_rows=1, capacity=256, chunk_invariant=True, num_spare_rows=2).scheduler
    planner = Planner(scheduler.limits, scheduler.placement)
    set_slot(planner, ROW, cached=CACHED)
    return planner


def set_slot(planner: Planner, row: int, **fields: Any) -> None:
    planner._view.slots[row] = replace(planner._view.slots[row], **fields)


def kept(planner: Planner, num_staying: int = 0) -> list[Copy]:
    planner._keep(ROW, num_staying)
    return planner._copies


@pytest.mark.parametrize(("num_staying", "is_kept"), [(0, True), (36, True), (37, False), (100, False)])
def test_few_tokens_are_not_worth_a_copy(planner: Planner, num_staying: int, *, is_kept: bool) -> None:
    assert kept(planner, num_staying) == ([Copy(ROW, SPARE, 100)] if is_kept else [])
    assert [len(planner._view.slots[row].cached) for row in (SPARE, OTHER_SPARE)] == [100 * is_kept, 0]


def test_tokens_that_another_row_caches_are_not_kept_twice(planner: Planner) -> None:
    set_slot(planner, OTHER_SPARE, cached=(*CACHED, 7))
    assert kept(planner) == []
    set_slot(planner, ROW, tenant="another key")
    assert kept(planner) == [Copy(ROW, SPARE, 100)]


def test_a_spare_row_of_this_step_is_not_overwritten(planner: Planner) -> None:
    for row in (SPARE, OTHER_SPARE):
        planner._view.touch(row)
    assert kept(planner) == []


def test_kept_tokens_replace_their_own_beginning(planner: Planner) -> None:
    set_slot(planner, SPARE, cached=(7, 7), last_used=-1)
    set_slot(planner, OTHER_SPARE, cached=CACHED[:70])
    assert kept(planner) == [Copy(ROW, OTHER_SPARE, 100)]
