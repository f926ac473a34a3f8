"""Watch the worker threads from the event loop: detect failures and stalls."""

from __future__ import annotations

import asyncio
import logging
import time

from infrs.api.common.errors import EngineStalledError, TextStalledError
from infrs.errors import InfrsError
from infrs.http.state import ServerState
from infrs.models.served import ServedModel, Service

logger = logging.getLogger("infrs.server")

_SECONDS = 0.5
_READY_PART = 4  # /ready fails after a quarter of the time that ends the process


class StallClock:
    """Measures how long a service has had work without progress. Time without work does not count."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._busy_since: float | None = None

    def read(self) -> float:
        """Return the seconds. Call it often: it notices new work only when it is called."""
        stats, now = self._service.snapshot(), time.monotonic()
        if not stats.num_open:
            self._busy_since = None
            return 0.0
        if self._busy_since is None:
            self._busy_since = now
        return now - max(self._busy_since, stats.last_progress)


def stall_of(engine: float, text: float, bound: float) -> InfrsError | None:
    """Return the error of an engine or a text thread without progress for more than `bound` seconds."""
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
    """Wait until a model's thread fails or stalls, and return the reason. Sets `ServerState.stalled`.

    Also measures the lag of the event loop.
    """
    clocks: dict[ServedModel, StallClock] = {}
    timeout = state.settings.server.stall_timeout
    while all(model.service.alive for model in state.models.models):
        clocks = {model: clocks.get(model) or StallClock(model.service) for model in state.models.models}
        stalled = max((clock.read() for clock in clocks.values()), default=0.0)
        _note(state, stall_of(stalled, state.text.busy_for(), timeout / _READY_PART))
        if stalled > timeout:
            return f"the engine has made no step for {stalled:.0f} s"
        due = time.monotonic() + _SECONDS
        await asyncio.sleep(_SECONDS)
        state.metrics.loop_lag.observe(max(0.0, time.monotonic() - due))
    return "the engine has failed"
