"""What a row gives up is kept in a spare one, where that is worth a copy."""

from __future__ import annotations

import pytest
from synthetic import EngineFactory

from infrs.engine.scheduling.plan import Copy
from infrs.engine.scheduling.slots import Slots


@pytest.fixture
def slots(new_engine: EngineFactory) -> Slots:
    slots = new_engine(num_rows=1, capacity=256, chunk_invariant=True, num_spare_rows=2).scheduler.slots
    slots.clock = 1
    slots.serving[0].held = tuple(range(100))
    return slots


@pytest.mark.parametrize(("num_staying", "is_kept"), [(0, True), (36, True), (37, False), (100, False)])
def test_few_tokens_are_not_worth_a_copy(slots: Slots, num_staying: int, *, is_kept: bool) -> None:
    row, spare = slots.serving[0], slots.spare
    assert [*slots.keep(row, num_staying)] == ([Copy(row.row, spare[0].row, 100)] if is_kept else [])
    assert [len(slot.held) for slot in spare] == [100 * is_kept, 0]


def test_what_another_row_holds_is_not_kept_twice(slots: Slots) -> None:
    row, spare = slots.serving[0], slots.spare
    spare[1].held = (*row.held, 7)
    assert [*slots.keep(row, 0)] == []
    row.tenant = "another key"
    assert [*slots.keep(row, 0)] == [Copy(row.row, spare[0].row, 100)]


def test_a_spare_row_of_this_step_is_not_written_over(slots: Slots) -> None:
    for slot in slots.spare:
        slot.last_used = slots.clock
    assert [*slots.keep(slots.serving[0], 0)] == []


def test_what_is_kept_takes_the_place_of_its_own_beginning(slots: Slots) -> None:
    row, spare = slots.serving[0], slots.spare
    spare[0].held, spare[0].last_used = (7, 7), -1
    spare[1].held = row.held[:70]
    assert [*slots.keep(row, 0)] == [Copy(row.row, spare[1].row, 100)]
