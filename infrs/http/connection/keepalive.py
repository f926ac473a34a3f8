"""Interrupt the wait for a stream that is silent for too long, so that the server can send a ping."""

from __future__ import annotations

import asyncio

from infrs.models.bridge import DeltaStream


class Keepalive:
    """Interrupts each wait for a stream's deltas that lasts `seconds`, until it is closed.

    One timer checks when the current wait began. A timer per wait would cost more than the wait.
    """

    def __init__(self, stream: DeltaStream, seconds: float) -> None:
        self._stream = stream
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(seconds, self._check)

    def close(self) -> None:
        """Stop to interrupt."""
        self._timer.cancel()

    def _check(self) -> None:
        now, since = self._loop.time(), self._stream.waiting_since
        due = now if since is None else since
        if due + self._seconds <= now:
            self._stream.interrupt()
            due = now
        self._timer = self._loop.call_at(due + self._seconds, self._check)
