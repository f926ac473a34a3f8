"""A queue of work for a few threads, fair among API keys."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from typing import Generic, TypeVar

from infrs.errors import QueueFullError

J = TypeVar("J")


class FairQueue(Generic[J]):
    """Decides which work starts next. The work of a key starts in order of arrival, and keys take turns.

    - A key with n works running gets a thread only if n is below `most_per_key`, and if more than n threads are free.
      So one key never takes all threads.
    - A key has at most `max_waiting` works that wait. All keys together have four times as many.
    """

    _MAX_KEYS = 4  # that fill their places

    def __init__(self, num_threads: int, most_per_key: int, max_waiting: int) -> None:
        self._num_threads = num_threads
        self._most_per_key = most_per_key
        self._max_waiting = max_waiting
        self._lines: OrderedDict[str, deque[J]] = OrderedDict()  # by tenant, in the order of their turns, none empty
        self._running: Counter[str] = Counter()

    def add(self, tenant: str, job: J) -> None:
        """Add a job to the end of a tenant's line. Raises QueueFullError."""
        of_key = len(self._lines.get(tenant, ()))
        if of_key >= self._max_waiting or sum(map(len, self._lines.values())) >= self._MAX_KEYS * self._max_waiting:
            raise QueueFullError(
                f"the texts of {of_key} requests wait to be processed, as many as this server takes; "
                "try again in a moment"
            )
        self._lines.setdefault(tenant, deque()).append(job)

    def discard(self, tenant: str, job: J) -> bool:
        """Remove a job if it waits, and return whether it did."""
        jobs = self._lines.get(tenant, ())
        if job not in jobs:
            return False
        self._lines[tenant].remove(job)
        self._drop_if_empty(tenant)
        return True

    def take(self) -> tuple[str, J] | None:
        """Remove the next job that may start and count it as running; None if all must wait."""
        tenant = next(filter(self._may_start, self._lines), None)
        if tenant is None:
            return None
        job = self._lines[tenant].popleft()
        self._lines.move_to_end(tenant)
        self._drop_if_empty(tenant)
        self._running[tenant] += 1
        return tenant, job

    def ended(self, tenant: str) -> None:
        """Free the thread of a job that was taken."""
        self._running[tenant] -= 1
        if not self._running[tenant]:
            del self._running[tenant]

    def _may_start(self, tenant: str) -> bool:
        of_key = self._running[tenant]
        return of_key < self._most_per_key and self._num_threads - self._running.total() > of_key

    def _drop_if_empty(self, tenant: str) -> None:
        if not self._lines[tenant]:
            del self._lines[tenant]
