"""A pool of threads for text work: templates, tokenising, grammars."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from infrs.core import RequestContext
from infrs.errors import InfrsError

T = TypeVar("T")

_THREADS = 2


class TextPool:
    """Runs work off the event loop and measures how long it runs. Its methods belong to the event loop.

    Work cannot be interrupted: work that never returns keeps its thread, but the request that waits for it ends.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(_THREADS, "infrs-text")
        self._started: dict[int, float] = {}  # seconds of the monotonic clock, by thread
        self._failures: set[asyncio.Future[InfrsError]] = set()  # one per waiting request

    async def run(self, work: Callable[[], T], context: RequestContext) -> T:
        """Run `work` in a thread.

        Raises what it raises, RequestTimeoutError at the deadline, and the error given to `fail_all`.
        """
        loop = asyncio.get_running_loop()
        result = loop.run_in_executor(self._executor, self._timed, work)
        failure = loop.create_future()
        self._failures.add(failure)
        try:
            await asyncio.wait((result, failure), timeout=context.remaining, return_when=asyncio.FIRST_COMPLETED)
            if result.done():
                return result.result()
            if failure.done():
                raise failure.result()
        finally:
            result.cancel()
            self._failures.discard(failure)
        raise context.timeout_error()

    def fail_all(self, error: InfrsError) -> None:
        """End every wait with an error."""
        for failure in self._failures:
            if not failure.done():
                failure.set_result(error)

    def busy_for(self) -> float:
        """Return the seconds that the oldest running work has taken; 0 if none runs."""
        started = [*self._started.values()]
        return time.monotonic() - min(started) if started else 0.0

    def close(self) -> None:
        """Start no more work, and do not wait for running work."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _timed(self, work: Callable[[], T]) -> T:
        thread = threading.get_ident()
        self._started[thread] = time.monotonic()
        try:
            return work()
        finally:
            del self._started[thread]
