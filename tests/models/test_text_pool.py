"""The pool of text threads. Events order the work, so no test depends on the speed of the machine."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from infrs.core import RequestContext
from infrs.errors import DrainingError, OutOfMemoryError, QueueFullError, RequestTimeoutError
from infrs.models.text_pool import NICENESS, NUM_THREADS, TextPool

PATIENCE = 20.0  # seconds; a fault makes a test fail rather than wait forever


class Gate:
    """Work that waits in its thread until the gate opens."""

    def __init__(self) -> None:
        self._open, self._begun = threading.Event(), threading.Semaphore(0)

    def work(self) -> bool:
        self._begun.release()
        return self._open.wait(PATIENCE)

    def open(self) -> None:
        self._open.set()

    async def begun(self) -> None:
        """Wait until one more thread has begun the work."""
        assert await asyncio.to_thread(self._begun.acquire, timeout=PATIENCE)


def run(use: Callable[[TextPool, Gate], Awaitable[None]], **limits: Any) -> None:
    """Use a new pool. The gate opens at the end."""

    async def main() -> None:
        pool, gate = TextPool(**{"max_waiting": 8, "queue_timeout": PATIENCE} | limits), Gate()
        try:
            await asyncio.wait_for(use(pool, gate), PATIENCE)
        finally:
            gate.open()
            pool.close()

    asyncio.run(main())


def context(tenant: str = "", seconds: float = PATIENCE) -> RequestContext:
    return RequestContext.start("a", tenant, seconds)


def test_results_and_errors_are_those_of_the_work() -> None:
    async def use(pool: TextPool, _gate: Gate) -> None:
        assert await pool.run(lambda: 7, context()) == 7
        for error in (ZeroDivisionError, TimeoutError, type("PanicException", (BaseException,), {})):

            def fail(error: type[BaseException] = error) -> None:
                raise error

            with pytest.raises(error):
                await pool.run(fail, context())

    run(use)


def test_the_busy_time_is_that_of_running_work() -> None:
    async def use(pool: TextPool, gate: Gate) -> None:
        assert pool.busy_for() == 0
        running = asyncio.create_task(pool.run(gate.work, context(), is_long=True))
        await gate.begun()
        assert 0 < pool.busy_for() < PATIENCE
        running.cancel()
        await asyncio.wait([running])
        assert pool.busy_for() > 0  # the work cannot be interrupted
        gate.open()
        await pool.run(lambda: None, context(), is_long=True)  # after the other
        assert pool.busy_for() == 0

    run(use)


@pytest.mark.parametrize("is_long", [False, True])
def test_a_key_does_not_wait_for_the_work_of_another(is_long: bool) -> None:
    async def use(pool: TextPool, gate: Gate) -> None:
        slow = [asyncio.create_task(pool.run(gate.work, context("a"), is_long=is_long)) for _ in range(8)]
        await gate.begun()
        assert await pool.run(lambda: 7, context("b")) == 7
        assert not any(task.done() for task in slow)
        gate.open()
        assert await asyncio.gather(*slow) == [True] * 8

    run(use)


@pytest.mark.parametrize("is_long", [False, True])
def test_answers_wait_for_no_other_work_and_no_other_key(is_long: bool) -> None:
    async def use(pool: TextPool, gate: Gate) -> None:
        slow = [asyncio.create_task(pool.run(gate.work, context("a"), is_long=is_long)) for _ in range(4)]
        slow += [asyncio.create_task(pool.run_answer(gate.work, context("a"))) for _ in range(4)]
        await gate.begun()
        await gate.begun()
        assert await pool.run_answer(lambda: 7, context("b")) == 7
        assert pool.busy_for() > 0
        assert not any(task.done() for task in slow)
        gate.open()
        assert await asyncio.gather(*slow) == [True] * 8

    run(use)


@pytest.mark.parametrize("num_keys", [1, 8])
def test_short_work_waits_for_no_long_work(num_keys: int) -> None:
    async def use(pool: TextPool, gate: Gate) -> None:
        keys = [str(number % num_keys) for number in range(8)]
        slow = [asyncio.create_task(pool.run(gate.work, context(key), is_long=True)) for key in keys]
        for _ in range(min(num_keys, NUM_THREADS)):
            await gate.begun()
        assert await pool.run(lambda: 7, context("0")) == 7
        assert not any(task.done() for task in slow)
        for task in slow:
            task.cancel()

    run(use)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere niceness belongs to a process")
def test_long_work_yields_the_cpu_and_short_work_does_not() -> None:
    async def use(pool: TextPool, _gate: Gate) -> None:
        own = os.nice(0)
        assert await pool.run(lambda: os.nice(0), context()) == own
        assert await pool.run(lambda: os.nice(0), context(), is_long=True) == min(own + NICENESS, 19)
        assert os.nice(0) == own

    run(use)


def test_work_that_waits_too_long_for_a_thread_fails_and_never_runs() -> None:
    ran = []

    async def use(pool: TextPool, gate: Gate) -> None:
        running = asyncio.create_task(pool.run(gate.work, context(), is_long=True))
        await gate.begun()
        with pytest.raises(RequestTimeoutError, match=r"no text thread became free within the 0\.05 s"):
            await pool.run(lambda: ran.append(1), context(), is_long=True)
        assert not running.done()  # work that runs has no such limit
        gate.open()
        assert await running
        await pool.run(lambda: None, context(), is_long=True)

    run(use, queue_timeout=0.05)
    assert not ran


def test_the_deadline_of_a_request_ends_its_wait() -> None:
    async def use(pool: TextPool, gate: Gate) -> None:
        with pytest.raises(RequestTimeoutError, match=r"longer than the 0\.05 s"):
            await pool.run(gate.work, context(seconds=0.05))

    run(use)


def test_a_full_queue_refuses_one_key_and_not_another() -> None:
    async def use(pool: TextPool, gate: Gate) -> None:
        slow = [asyncio.create_task(pool.run(gate.work, context("a"), is_long=True)) for _ in range(3)]
        await gate.begun()
        with pytest.raises(QueueFullError, match="the texts of 2 requests wait"):
            await pool.run(lambda: 7, context("a"), is_long=True)
        assert await pool.run(lambda: 7, context("a")) == 7
        assert await pool.run(lambda: 7, context("b"), is_long=True) == 7
        slow[1].cancel()  # its place is free again
        await asyncio.wait(slow[1:2])
        slow.append(asyncio.create_task(pool.run(lambda: True, context("a"), is_long=True)))
        await asyncio.sleep(0)
        assert not slow[-1].done()
        for task in slow:
            task.cancel()

    run(use, max_waiting=2)


def test_a_drain_ends_running_and_waiting_work() -> None:
    async def use(pool: TextPool, gate: Gate) -> None:
        slow = [asyncio.create_task(pool.run(gate.work, context(), is_long=True)) for _ in range(3)]
        await gate.begun()
        pool.fail_all(DrainingError("stopping"))
        results = await asyncio.gather(*slow, return_exceptions=True)
        assert [type(result) for result in results] == [DrainingError] * 3
        pool.close()
        assert pool.busy_for() > 0

    run(use)


@pytest.mark.parametrize("lane", ["short", "long", "answers"])
def test_without_memory_for_a_thread_one_request_fails(lane: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The work that failed keeps no place among the works of its key, of which some lanes run one at a time."""

    def submit(pool: TextPool) -> Awaitable[int]:
        if lane == "answers":
            return pool.run_answer(lambda: 7, context())
        return pool.run(lambda: 7, context(), is_long=lane == "long")

    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def use(pool: TextPool, _gate: Gate) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", fail)
            with pytest.raises(OutOfMemoryError, match="too little memory"):
                await submit(pool)
        for _ in range(8):
            assert await submit(pool) == 7

    run(use)
