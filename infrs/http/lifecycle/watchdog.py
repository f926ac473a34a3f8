"""Watch the worker threads from the event loop: detect failures and stalls."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from infrs.api.common.errors import EngineStalledError, TextStalledError
from infrs.errors import EngineError, InfrsError
from infrs.http.state import ServerState
from infrs.models.served import ServedModel, Service

logger = logging.getLogger("infrs.server")

_SECONDS = 0.5
_LATE = 1.0  # a later tick is a pause
_PAUSES = 64  # as many as are remembered
_READY_PART = 4  # /ready fails after a quarter of the time that ends the process


class RunningTime:
    """Measures time without the pauses of this process, as by SIGSTOP or `docker pause`.

    A pause shows as a tick that comes late. A busy machine delays ticks too; that time does not count either.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due = clock()
        self._pauses: deque[tuple[float, float]] = deque(maxlen=_PAUSES)  # start and end

    def tick(self, seconds: float) -> float:
        """Note the time, return how many seconds late this tick is, and expect the next one in `seconds`."""
        now = self._clock()
        late = max(0.0, now - self._due)
        if late > _LATE:
            self._pauses.append((self._due, now))
        self._due = now + seconds
        return late

    def since(self, moment: float) -> float:
        """Return the running seconds since a moment of the clock. A tick that is late now counts as a pause."""
        now = self._clock()
        late = [(self._due, now)] if now - self._due > _LATE else []
        paused = sum(max(0.0, end - max(start, moment)) for start, end in [*self._pauses, *late])
        return max(0.0, now - moment - paused)


class StallClock:
    """Measures how long a service has had work without progress. Time without work does not count."""

    def __init__(self, service: Service, running: RunningTime | None = None) -> None:
        self._service = service
        self._running = running or RunningTime()
        self._busy_since: float | None = None

    def read(self) -> float:
        """Return the seconds. Call it often: it notices new work only when it is called."""
        stats = self._service.snapshot()
        if not stats.num_open:
            self._busy_since = None
            return 0.0
        if self._busy_since is None:
            self._busy_since = time.monotonic()
        return self._running.since(max(self._busy_since, stats.last_progress))


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


class FileCheck:
    """Looks for bundle files that another program changes, in a thread: a slow file system must not delay requests.

    seconds: the most that a call waits for the result.
    """

    def __init__(self, seconds: float = _SECONDS) -> None:
        self._seconds = seconds
        self._thread = ThreadPoolExecutor(1, "infrs-files")
        self._running: asyncio.Future[dict[ServedModel, Path]] | None = None

    async def check(self, models: Sequence[ServedModel]) -> Mapping[ServedModel, Path]:
        """Return a changed file of each model that has one. A later call returns what takes longer than the wait."""
        if self._running is None:
            self._running = asyncio.get_running_loop().run_in_executor(self._thread, _disturbed, [*models])
        await asyncio.wait([self._running], timeout=self._seconds)
        if not self._running.done():
            return {}
        found, self._running = self._running.result(), None
        return found

    def close(self) -> None:
        """Start no more checks."""
        self._thread.shutdown(wait=False)


def _disturbed(models: Sequence[ServedModel]) -> dict[ServedModel, Path]:
    return {model: path for model in models if (path := model.disturbed_file()) is not None}


def _failure_of(model: ServedModel, path: Path | None) -> str | None:
    """Return why a model cannot continue, or None. path: a file of its bundle that another program changes."""
    if not model.service.alive:
        return f"the engine of {model.model_id} has failed"
    if path is not None:
        return f"another program writes to {path}, which this server uses for {model.model_id}; export the model again"
    return None


def _failure(state: ServerState, disturbed: Mapping[ServedModel, Path]) -> str | None:
    """Return why the only model cannot continue, or None. Of several models, stop those that cannot."""
    for model in state.models.models:
        reason = _failure_of(model, disturbed.get(model))
        if reason is not None and len(state.models.entries) == 1:
            return reason
        if reason is not None:
            logger.error("%s; its requests fail, and the next one loads it again", reason)
            state.models.fail(model, EngineError(reason))
    return None


async def until_failure(state: ServerState) -> str:
    """Wait until a thread stalls, or the only model fails or its files change, and return the reason.

    Sets `ServerState.stalled`. Also measures the lag of the event loop. One of several models that fails is stopped,
    and the others continue.
    """
    files = FileCheck()
    try:
        return await _until_failure(state, files)
    finally:
        files.close()


async def _until_failure(state: ServerState, files: FileCheck) -> str:
    clocks: dict[ServedModel, StallClock] = {}
    running = RunningTime()
    timeout = state.settings.server.stall_timeout
    while (reason := _failure(state, await files.check(state.models.models))) is None:
        clocks = {model: clocks.get(model) or StallClock(model.service, running) for model in state.models.models}
        stalled, model_id = max(((clock.read(), model.model_id) for model, clock in clocks.items()), default=(0.0, ""))
        text = running.since(time.monotonic() - state.text.busy_for())
        _note(state, stall_of(stalled, text, timeout / _READY_PART))
        if stalled > timeout:
            return f"the engine of {model_id} has made no step for {stalled:.0f} s"
        running.tick(_SECONDS)
        await asyncio.sleep(_SECONDS)
        state.metrics.loop_lag.observe(running.tick(0.0))
    return reason
