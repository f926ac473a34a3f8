"""Watches an engine from the event loop: whether it lives, and whether it gets on."""

from __future__ import annotations

import asyncio
import time

from infrs.engine.service import EngineService
from infrs.server.state import ServerState

_SECONDS = 0.5
_READY_PART = 4  # /ready fails after a quarter of what ends the process


class StallClock:
    """How long an engine has had work and made no step. What it has waited for work does not count."""

    def __init__(self, engine: EngineService) -> None:
        self._engine = engine
        self._busy_since: float | None = None

    def read(self) -> float:
        """Seconds. Call it often: work is noticed when this is called."""
        stats, now = self._engine.snapshot(), time.monotonic()
        if not stats.num_running and not stats.num_waiting:
            self._busy_since = None
            return 0.0
        if self._busy_since is None:
            self._busy_since = now
        return now - max(self._busy_since, stats.last_progress)


async def until_failure(engine: EngineService, state: ServerState) -> str:
    """Wait until an engine cannot serve any more, in `ServerState.stalled` telling when it seems so; why, in words.

    Measures on the way how late the event loop comes to what is due.
    """
    clock, timeout = StallClock(engine), state.settings.server.stall_timeout
    while engine.alive:
        stalled = clock.read()
        state.stalled = stalled > timeout / _READY_PART
        if stalled > timeout:
            return f"the engine has made no step for {stalled:.0f} s"
        due = time.monotonic() + _SECONDS
        await asyncio.sleep(_SECONDS)
        state.metrics.loop_lag.observe(max(0.0, time.monotonic() - due))
    return "the engine has failed"
