"""The queue of sequences without a row: tenants take turns, and each tenant is served first come, first served.

Without API keys all requests have the same tenant. A request with many answers does not come before others of its
tenant that run fewer: so requests with one answer each are a plain queue.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping

from infrs.engine.sequence import Sequence


class WaitingSequences:
    """Sequences without a row. A sequence can starve only behind an endless supply of tenants that run fewer."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[Sequence]] = {}  # none is empty; the tenant served longest ago comes first

    def __iter__(self) -> Iterator[Sequence]:
        for queue in self._queues.values():
            yield from queue

    def __bool__(self) -> bool:
        return bool(self._queues)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WaitingSequences) and [*self._queues.items()] == [*other._queues.items()]

    __hash__ = None  # type: ignore[assignment]  # mutable

    def copy(self) -> WaitingSequences:
        """Return a queue that changes independently."""
        copied = WaitingSequences()
        copied._queues = {tenant: queue.copy() for tenant, queue in self._queues.items()}
        return copied

    def append(self, sequence: Sequence) -> None:
        """Add a sequence behind the others of its tenant."""
        self._queues.setdefault(sequence.request.tenant, deque()).append(sequence)

    def put_back(self, sequence: Sequence) -> None:
        """Add a preempted sequence before the others of its tenant."""
        self._queues.setdefault(sequence.request.tenant, deque()).appendleft(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Remove a sequence. Raises KeyError or ValueError if it does not wait."""
        tenant = sequence.request.tenant
        self._queues[tenant].remove(sequence)
        if not self._queues[tenant]:
            del self._queues[tenant]

    def next(self, running: Iterable[Sequence]) -> Sequence | None:
        """Return the sequence to serve next: of the tenant that runs least and, among those, was served longest ago.

        Within the tenant it is the first one of the request that runs least. Paused sequences keep their places. None
        if no other waits.
        """
        by_tenant: Counter[str] = Counter()
        by_request: Counter[str] = Counter()
        for sequence in running:
            by_tenant[sequence.request.tenant] += 1
            by_request[sequence.request.request_id] += 1
        first = (_first(queue, by_request) for queue in self._queues.values())
        return min(filter(None, first), key=lambda each: by_tenant[each.request.tenant], default=None)

    def take(self, sequence: Sequence) -> None:
        """Remove a sequence that has got a row. Its tenant has its next turn after the others."""
        tenant = sequence.request.tenant
        self.remove(sequence)
        if queue := self._queues.pop(tenant, None):
            self._queues[tenant] = queue


def _first(queue: Iterable[Sequence], num_running: Mapping[str, int]) -> Sequence | None:
    """Return the first sequence of the request that runs least; None if all are paused."""
    best: Sequence | None = None
    least = 0
    for each in queue:
        if each.paused:
            continue
        count = num_running[each.request.request_id]
        if best is None or count < least:
            best, least = each, count
        if not least:
            break
    return best
