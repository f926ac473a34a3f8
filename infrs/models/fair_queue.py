"""A queue of work for a few threads, fair among API keys."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from infrs.errors import QueueFullError

J = TypeVar("J")


@dataclass(frozen=True, slots=True)
class Line:
    """The work of one key that starts in order of arrival. Each key has a line for short and a line for long work."""

    tenant: str
    is_long: bool


class FairQueue(Generic[J]):
    """Decides which work starts next. Lines take turns; a line that was served goes to the end.

    - A key with n works running gets a thread only if more than n are free. So one key never takes all threads, and of
      four threads, four keys get one each.
    - A line of long work has one work running. So short work of the same key does not wait for it.
    - A key has at most `max_waiting` works that wait. All keys together have four times as many.
    """

    _MAX_KEYS = 4  # that fill their places

    def __init__(self, num_threads: int, max_waiting: int) -> None:
        self._num_threads = num_threads
        self._max_waiting = max_waiting
        self._lines: OrderedDict[Line, deque[J]] = OrderedDict()  # in the order of their turns, none empty
        self._running: Counter[Line] = Counter()

    def add(self, line: Line, job: J) -> None:
        """Add a job to the end of its line. Raises QueueFullError."""
        counts = {each: len(jobs) for each, jobs in self._lines.items()}
        of_key = sum(count for each, count in counts.items() if each.tenant == line.tenant)
        if of_key >= self._max_waiting or sum(counts.values()) >= self._MAX_KEYS * self._max_waiting:
            raise QueueFullError(
                f"the texts of {of_key} requests wait to be processed, as many as this server takes; "
                "try again in a moment"
            )
        self._lines.setdefault(line, deque()).append(job)

    def discard(self, line: Line, job: J) -> bool:
        """Remove a job if it waits, and return whether it did."""
        jobs = self._lines.get(line, ())
        if job not in jobs:
            return False
        self._lines[line].remove(job)
        self._drop_if_empty(line)
        return True

    def take(self) -> tuple[Line, J] | None:
        """Remove the next job that may start and count it as running; None if all must wait."""
        line = next(filter(self._may_start, self._lines), None)
        if line is None:
            return None
        job = self._lines[line].popleft()
        self._lines.move_to_end(line)
        self._drop_if_empty(line)
        self._running[line] += 1
        return line, job

    def ended(self, line: Line) -> None:
        """Free the thread of a job that was taken."""
        self._running[line] -= 1
        if not self._running[line]:
            del self._running[line]

    def _may_start(self, line: Line) -> bool:
        if line.is_long and self._running[line]:
            return False
        of_key = sum(count for each, count in self._running.items() if each.tenant == line.tenant)
        return self._num_threads - self._running.total() > of_key

    def _drop_if_empty(self, line: Line) -> None:
        if not self._lines[line]:
            del self._lines[line]
