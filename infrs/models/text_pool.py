"""A pool of threads for text work: templates, tokenising, grammars, and the bodies of large answers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from infrs.core import RequestContext
from infrs.errors import InfrsError, OutOfMemoryError, RequestTimeoutError
from infrs.models.fair_queue import FairQueue

T = TypeVar("T")

NUM_THREADS = 4  # of the lanes of requests
NUM_ANSWER_THREADS = 2
# Of long work. On a busy core, the engine's threads get three times as much time. A higher value would delay them on a
# busy machine: they wait for the interpreter lock, which long work holds at times.
NICENESS = 5


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """Work that waits or runs.

    result: for the request, which may end before the work. claim: held once the work has been started or given up.
    """

    work: Callable[[], Any]
    result: asyncio.Future[Any]
    claim: threading.Lock = field(default_factory=threading.Lock)

    def fail(self, error: BaseException) -> None:
        """End the wait of the request, unless it has ended."""
        if not self.result.done():
            self.result.set_exception(error)


class TextPool:
    """Runs work off the event loop, fairly among API keys, and measures how long it runs.

    Short work, long work and answers have a lane each, with threads of its own, so that short work never waits for
    long work. The threads of long work and of answers yield the CPU to the engine, and run one work of a key at a time.

    Its methods belong to the event loop. Work cannot be interrupted: work that never returns keeps its thread, but the
    request that waits for it ends. `FairQueue` decides what starts next.
    """

    def __init__(self, max_waiting: int, queue_timeout: float) -> None:
        """max_waiting: works of one key that wait in a lane. queue_timeout: how long one waits, in seconds."""
        short = ThreadPoolExecutor(NUM_THREADS, "infrs-text")
        long = ThreadPoolExecutor(NUM_THREADS, "infrs-long-text", yield_cpu)
        answers = ThreadPoolExecutor(NUM_ANSWER_THREADS, "infrs-answers", yield_cpu)
        self._short = _Lane(short, FairQueue(NUM_THREADS, 2, max_waiting), queue_timeout)
        self._long = _Lane(long, FairQueue(NUM_THREADS, 1, max_waiting), queue_timeout)
        self._answers = _Lane(answers, FairQueue(NUM_ANSWER_THREADS, 1, max_waiting), queue_timeout)
        self._lanes = (self._short, self._long, self._answers)

    async def run(self, work: Callable[[], T], context: RequestContext, *, is_long: bool = False) -> T:
        """Run `work` in a thread. `is_long`: it may take over 20 ms.

        Raises what it raises, QueueFullError, RequestTimeoutError at the deadline or if no thread is free for
        `queue_timeout` seconds, and the error given to `fail_all`.
        """
        return await (self._long if is_long else self._short).run(work, context)

    async def run_answer(self, work: Callable[[], T], context: RequestContext) -> T:
        """Run the formatting of an answer in a thread. Raises as `run`."""
        return await self._answers.run(work, context)

    def fail_all(self, error: InfrsError) -> None:
        """End every wait with an error."""
        for lane in self._lanes:
            lane.fail_all(error)

    def busy_for(self) -> float:
        """Return the seconds that the oldest running work has taken; 0 if none runs."""
        return max(lane.busy_for() for lane in self._lanes)

    def close(self) -> None:
        """Start no more work, and do not wait for running work."""
        for lane in self._lanes:
            lane.close()


def yield_cpu() -> None:
    """Lower the priority of the calling thread, for good. Linux only: elsewhere niceness belongs to a process."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a sandbox may forbid it
            os.nice(NICENESS)


class _Lane:
    """Threads for one kind of work, with their queue."""

    def __init__(self, executor: ThreadPoolExecutor, queue: FairQueue[_Job], queue_timeout: float) -> None:
        self._executor = executor
        self._queue = queue
        self._queue_timeout = queue_timeout
        self._started: dict[int, float] = {}  # seconds of the monotonic clock, by thread
        self._jobs: set[_Job] = set()  # of the requests that wait for a result

    async def run(self, work: Callable[[], T], context: RequestContext) -> T:
        """Run `work` in a thread. Raises as `TextPool.run`."""
        loop = asyncio.get_running_loop()
        tenant, job = context.tenant, _Job(work, loop.create_future())
        self._queue.add(tenant, job)
        self._jobs.add(job)
        timers = (
            loop.call_later(self._queue_timeout, self._give_up, tenant, job),
            loop.call_later(context.remaining, job.fail, context.timeout_error()),
        )
        try:
            self._start()
            result: T = await job.result
            return result
        finally:
            for timer in timers:
                timer.cancel()
            self._queue.discard(tenant, job)
            self._jobs.discard(job)

    def fail_all(self, error: InfrsError) -> None:
        """End every wait with an error."""
        for job in self._jobs:
            job.fail(error)

    def busy_for(self) -> float:
        """Return the seconds that the oldest running work has taken; 0 if none runs."""
        started = [*self._started.values()]
        return time.monotonic() - min(started) if started else 0.0

    def close(self) -> None:
        """Start no more work, and do not wait for running work."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _start(self) -> None:
        """Start the works that may run now."""
        while (taken := self._queue.take()) is not None:
            try:
                self._executor.submit(self._work, *taken, asyncio.get_running_loop())
            except RuntimeError:  # no memory for a thread: the executor keeps the work until it has a thread
                tenant, job = taken
                if job.claim.acquire(blocking=False):  # no thread has taken it meanwhile
                    self._queue.ended(tenant)
                    job.fail(OutOfMemoryError("the server has too little memory for a thread; try again in a moment"))

    def _give_up(self, tenant: str, job: _Job) -> None:
        if self._queue.discard(tenant, job):
            seconds = f"{self._queue_timeout:g} s that this server lets a request wait"
            job.fail(RequestTimeoutError(f"no text thread became free within the {seconds}; try again in a moment"))

    def _work(self, tenant: str, job: _Job, loop: asyncio.AbstractEventLoop) -> None:
        """Run a job, in a thread, unless it was given up."""
        if not job.claim.acquire(blocking=False):
            return
        thread = threading.get_ident()
        self._started[thread] = time.monotonic()
        result, error = None, None
        try:
            result = job.work()
        except BaseException as raised:  # a panic of a library is no Exception
            error = raised
        del self._started[thread]
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(self._end, tenant, job, result, error)

    def _end(self, tenant: str, job: _Job, result: object, error: BaseException | None) -> None:
        self._queue.ended(tenant)
        if error is not None:
            job.fail(error)
        elif not job.result.done():
            job.result.set_result(result)
        self._start()
