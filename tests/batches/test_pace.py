"""When requests of batches start: limits, keys in turn, slots that stay free."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from infrs.batches.pace import Pace, Row, has_room
from infrs.models.registry import ModelRegistry, ModelState
from infrs.models.served import ServedChatModel


def run(work: Callable[[], Any]) -> None:
    asyncio.run(asyncio.wait_for(work(), 30))


def test_the_key_with_the_fewest_rows_comes_first_and_the_limit_holds() -> None:
    async def work() -> None:
        pace, started = Pace(3, lambda row, uncounted: True), []

        async def enter(row: Row) -> None:
            await pace.enter(row)
            started.append(row.tenant)

        rows = [Row("a", "m", 1) for _ in range(5)] + [Row("b", "m", 1) for _ in range(2)] + [Row("c", "m", 3)]
        tasks = [asyncio.create_task(enter(row)) for row in rows]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (started, pace.num_running) == (["a", "a", "a"], 3)
        for number in range(5):
            pace.ended(rows[number])
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert pace.num_running <= 3
        for row in rows[5:7]:
            pace.ended(row)
        await asyncio.gather(*tasks)
        assert pace.num_running == 3
        assert started.index("b") < 5  # before the last ones of the key that came first
        assert started[-1] == "c"

    run(work)


def test_a_large_row_is_not_passed_for_ever() -> None:
    async def work() -> None:
        pace = Pace(2, lambda row, uncounted: True)
        first, large, small = Row("a", "m", 1), Row("a", "m", 2), Row("a", "m", 1)
        await pace.enter(first)
        waiting = [asyncio.create_task(pace.enter(row)) for row in (large, small)]
        await asyncio.sleep(0)
        pace.ended(first)
        await waiting[0]
        assert not waiting[1].done()
        pace.ended(large)
        await waiting[1]

    run(work)


def test_a_row_that_is_cancelled_leaves_no_slot_taken() -> None:
    async def work() -> None:
        pace = Pace(1, lambda row, uncounted: True)
        first, second = Row("a", "m", 1), Row("a", "m", 1)
        await pace.enter(first)
        waiting = asyncio.create_task(pace.enter(second))
        await asyncio.sleep(0)
        pace.ended(first)  # the second has started, and its task has not run yet
        waiting.cancel()
        await asyncio.wait([waiting])
        assert pace.num_running == 0
        first, second = Row("a", "m", 1), Row("a", "m", 1)
        await pace.enter(first)
        again = asyncio.create_task(pace.enter(second))
        await asyncio.sleep(0)
        again.cancel()
        pace.ended(first)  # before the cancelled task runs
        await asyncio.wait([again])
        assert pace.num_running == 0

    run(work)


def test_a_busy_model_is_looked_at_again() -> None:
    async def work() -> None:
        room: list[bool] = []
        pace = Pace(1, lambda row, uncounted: len(room) > 3 or bool(room.append(False)))
        await pace.enter(Row("a", "m", 1))
        assert len(room) > 3

    run(work)


def registry(rows: int, in_flight: int, waiting: int = 0, state: ModelState = ModelState.READY) -> ModelRegistry:
    class Busy(ServedChatModel):
        num_in_flight = in_flight

        def __init__(self) -> None:
            stats = SimpleNamespace(num_rows=rows, num_open=in_flight)
            self.service = cast(Any, SimpleNamespace(snapshot=lambda: stats))

    entry = SimpleNamespace(model_id="m", aliases={"alias"}, state=state, served=Busy(), waiting=waiting)
    return cast(ModelRegistry, SimpleNamespace(entries=[entry]))


@pytest.mark.parametrize(
    ("rows", "in_flight", "uncounted", "num_answers", "expected"),
    [
        (8, 5, 0, 1, True),
        (8, 6, 0, 1, False),  # a quarter stays free
        (8, 4, 2, 1, False),  # those that the model does not count yet
        (8, 4, 0, 3, False),
        (2, 0, 0, 1, True),
        (2, 1, 0, 1, False),
        (1, 0, 0, 1, True),  # a model of one slot runs a request while it is idle
        (1, 1, 0, 1, False),
        (1, 0, 1, 1, False),
    ],
)
def test_a_model_keeps_slots_for_others(
    rows: int, in_flight: int, uncounted: int, num_answers: int, expected: bool
) -> None:
    for name in ("m", "alias", None):
        row = cast(Row, SimpleNamespace(model=name, num_answers=num_answers))
        assert has_room(registry(rows, in_flight), row, uncounted) is expected
        assert not has_room(registry(rows, in_flight, waiting=1), row, uncounted)


def test_one_request_loads_a_model() -> None:
    row = cast(Row, SimpleNamespace(model="m", num_answers=1))
    models = registry(8, 0, state=ModelState.UNLOADED)
    assert has_room(models, row, 0)
    assert not has_room(models, row, 1)
