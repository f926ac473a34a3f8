"""Decide when a request of a batch may start, so that other requests keep their slots.

The engine knows nothing of batches: a request that has started is one like any other.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from infrs.models.registry import ModelRegistry, ModelState
from infrs.models.served import ServedChatModel

_POLL_SECONDS = 0.1  # between two looks at the models, while requests wait
_KEPT_PART = 4  # of the slots of a model, batches leave a quarter free


@dataclass(slots=True, eq=False)
class Row:
    """A request of a batch that waits or runs.

    num_answers: the slots that it takes. model: as it names it. is_submitted: whether its model counts it.
    """

    tenant: str
    model: object
    num_answers: int
    is_submitted: Callable[[], bool] = lambda: False
    started: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Pace:
    """Starts the requests of all batches: at most `max_rows` slots together, the API key with the fewest first."""

    def __init__(self, max_rows: int, has_room: Callable[[Row, int], bool]) -> None:
        """has_room: whether the model of a request has slots for it, with those of requests that it does not count."""
        self.max_rows, self._has_room = max_rows, has_room
        self._waiting: list[Row] = []
        self._running: list[Row] = []
        self._timer: asyncio.TimerHandle | None = None

    @property
    def num_running(self) -> int:
        """Return the slots that the requests of batches take."""
        return sum(row.num_answers for row in self._running)

    async def enter(self, row: Row) -> None:
        """Wait until a request may start. `ended` must follow."""
        self._waiting.append(row)
        self._start()
        try:
            await row.started
        except asyncio.CancelledError:
            if row in self._waiting:
                self._waiting.remove(row)
            else:
                self.ended(row)
            raise

    def ended(self, row: Row, _: object = None) -> None:
        """Give the slots of a request that had started to others."""
        self._running.remove(row)
        self._start()

    def _start(self) -> None:
        """Start the requests that may run, and look again later if some still wait."""
        while (row := self._next()) is not None:
            self._waiting.remove(row)
            self._running.append(row)
            row.started.set_result(None)
        if self._timer is None and self._waiting:
            self._timer = asyncio.get_running_loop().call_later(_POLL_SECONDS, self._look)

    def _look(self) -> None:
        self._timer = None
        self._start()

    def _next(self) -> Row | None:
        running = self.num_running
        by_tenant = Counter(row.tenant for row in self._running)
        for row in sorted(self._waiting, key=lambda row: by_tenant[row.tenant]):  # stable: in order of arrival
            if row.started.cancelled():
                continue
            if running + row.num_answers > self.max_rows:
                return None  # smaller ones do not pass it, else it would never start
            uncounted = (each for each in self._running if each.model == row.model and not each.is_submitted())
            if self._has_room(row, sum(each.num_answers for each in uncounted)):
                return row
        return None


def has_room(models: ModelRegistry, row: Row, num_uncounted: int) -> bool:
    """Return whether a model has slots for a request of a batch, and leaves a quarter of them, at least one, free.

    num_uncounted: slots of requests that the model does not count yet. A model of one slot has room while it is idle,
    as an embedding model has. No request of a batch starts while a request waits for a model to load: it could keep in
    memory the model that must make room.
    """
    if any(entry.waiting for entry in models.entries):
        return False
    named = [entry for entry in models.entries if row.model in (entry.model_id, *entry.aliases)]
    ready = [entry.served for entry in named or models.entries[:1] if entry.state is ModelState.READY]
    served = ready[0] if ready else None
    if served is None:
        return num_uncounted == 0  # the request loads its model, or gets an error
    num_slots = served.service.snapshot().num_rows if isinstance(served, ServedChatModel) else 1
    num_used = max(served.num_in_flight, served.service.snapshot().num_open) + num_uncounted
    return num_used == 0 or num_used + row.num_answers <= num_slots - max(1, num_slots // _KEPT_PART)
