"""Watches the services from the event loop: whether they live, and whether they get on."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Protocol

from infrs.api.common.errors import EngineStalledError, TextStalledError
from infrs.errors import InfrsError
from infrs.http.state import ServerState

logger = logging.getLogger("infrs.server")

_SECONDS = 0.5
_READY_PART = 4  # /ready fails after a quarter of what ends the process


class Stats(Protocol):
    """A moment of a service."""

    @property
    def num_open(self) -> int:
        """Requests that run or wait."""

    @property
    def last_progress(self) -> float:
        """Seconds of the monotonic clock."""


class Service(Protocol):
    """A thread that works on requests."""

    @property
    def alive(self) -> bool:
        """Whether it runs."""

    def snapshot(self) -> Stats:
        """Its counts as of now."""


class StallClock:
    """How long a service has had work and made no progress. What it has waited for work does not count."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._busy_since: float | None = None

    def read(self) -> float:
        """Seconds. Call it often: work is noticed when this is called."""
        stats, now = self._service.snapshot(), time.monotonic()
        if not stats.num_open:
            self._busy_since = None
            return 0.0
        if self._busy_since is None:
            self._busy_since = now
        return now - max(self._busy_since, stats.last_progress)


def stall_of(engine: float, text: float, bound: float) -> InfrsError | None:
    """The error of an engine, or else a text thread, that has made no progress for more than `bound` seconds."""
    if engine > bound:
        return EngineStalledError(f"the engine has made no step for {bound:g} s; if it stays so, restart the server")
    if text > bound:
        return TextStalledError(
            f"work on the text of one request has taken over {bound:g} s; if it stays so, restart the server"
        )
    return None


def _note(state: ServerState, stall: InfrsError | None) -> None:
    if stall is not None and state.stalled is None:
        logger.error("/ready fails: %s", stall)
    elif stall is None and state.stalled is not None:
        logger.info("/ready no longer fails")
    state.stalled = stall


async def until_failure(state: ServerState) -> str:
    """Wait until a service cannot serve any more, and return why. Sets `ServerState.stalled`.

    Measures meanwhile how late the event loop comes to what is due.
    """
    clocks, timeout = [StallClock(service) for service in state.services], state.settings.server.stall_timeout
    while all(service.alive for service in state.services):
        stalled = max(clock.read() for clock in clocks)
        _note(state, stall_of(stalled, state.text.busy_for(), timeout / _READY_PART))
        if stalled > timeout:
            return f"the engine has made no step for {stalled:.0f} s"
        due = time.monotonic() + _SECONDS
        await asyncio.sleep(_SECONDS)
        state.metrics.loop_lag.observe(max(0.0, time.monotonic() - due))
    return "the engine has failed"
