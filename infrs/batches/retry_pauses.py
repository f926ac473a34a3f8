"""The pauses of a request that meets a server without room."""

from __future__ import annotations

import asyncio
import random
import time

BUSY = (429, 503)  # statuses that a later attempt may not have
_MAX_PAUSE = 5.0  # seconds


class Patience:
    """Pauses between the attempts of one request, each twice as long as the one before."""

    def __init__(self, seconds: float = 600.0) -> None:
        self._end = time.monotonic() + seconds
        self._pause = 0.5

    async def pause(self) -> bool:
        """Wait before another attempt, and return True; return False when the time for attempts is over."""
        if time.monotonic() > self._end:
            return False
        await asyncio.sleep(random.uniform(self._pause / 2, self._pause))  # noqa: S311  # so that not all ask together
        self._pause = min(2 * self._pause, _MAX_PAUSE)
        return True
