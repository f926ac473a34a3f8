"""Tells who waits for a stream that nothing has come for a while."""

from __future__ import annotations

import asyncio

from infrs.models.bridge import DeltaStream


class Keepalive:
    """Interrupts each wait for a stream's deltas that lasts `seconds`, until it is closed.

    One alarm looks when the present wait began: one of its own for every wait costs more than the wait.
    """

    def __init__(self, stream: DeltaStream, seconds: float) -> None:
        self._stream = stream
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._alarm = self._loop.call_later(seconds, self._check)

    def close(self) -> None:
        """Interrupt no more."""
        self._alarm.cancel()

    def _check(self) -> None:
        now, since = self._loop.time(), self._stream.waiting_since
        due = now if since is None else since
        if due + self._seconds <= now:
            self._stream.interrupt()
            due = now
        self._alarm = self._loop.call_at(due + self._seconds, self._check)
