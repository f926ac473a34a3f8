"""Work in a thread of its own, for work that may never end."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class OwnThread(Generic[T]):
    """Work in a daemon thread. Neither other work nor the end of the process waits for it, unlike a pool's thread.

    is_running: whether the work has not ended.
    """

    def __init__(self, work: Callable[[], T], name: str, discard: Callable[[T], None]) -> None:
        """Start the work, in a copy of this context. discard: frees a result that comes too late."""
        self._work = work
        self._discard = discard
        self._loop = asyncio.get_running_loop()
        self._result: asyncio.Future[T] = self._loop.create_future()
        self.is_running = True
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=[self._run], name=name, daemon=True).start()

    async def result(self) -> T:
        """Wait for the end of the work. Return its result, or raise its exception. Cancelling this discards it."""
        return await self._result

    def _run(self) -> None:
        result: list[T] = []
        failure: BaseException | None = None
        try:
            result.append(self._work())
        except BaseException as error:  # for `result`
            failure = error
        self.is_running = False
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._settle, result, failure)

    def _settle(self, result: list[T], failure: BaseException | None) -> None:
        if not self._result.done():
            if failure is not None:
                self._result.set_exception(failure)
            else:
                self._result.set_result(result[0])
        elif result:
            self._discard(result[0])
