"""Who gets the next slot: in turn among tenants, first come, first served within one.

Without API keys all requests are of one tenant, and this is a plain queue.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator

from infrs.engine.sequence import Sequence


class WaitingSequences:
    """Sequences without a slot. One that waits for ever would need tenants without end that run less than its own."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[Sequence]] = {}  # none is empty; who was served longest ago comes first

    def __iter__(self) -> Iterator[Sequence]:
        for queue in self._queues.values():
            yield from queue

    def __bool__(self) -> bool:
        return bool(self._queues)

    def append(self, sequence: Sequence) -> None:
        """Let a sequence wait behind its tenant's others."""
        self._queues.setdefault(sequence.request.tenant, deque()).append(sequence)

    def put_back(self, sequence: Sequence) -> None:
        """Let a sequence that has lost its slot wait before its tenant's others."""
        self._queues.setdefault(sequence.request.tenant, deque()).appendleft(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Let a sequence wait no more. Raises KeyError or ValueError if it does not."""
        tenant = sequence.request.tenant
        self._queues[tenant].remove(sequence)
        if not self._queues[tenant]:
            del self._queues[tenant]

    def next(self, running: Iterable[Sequence]) -> Sequence:
        """Whose turn it is: of the tenant that runs least and, among those, was served longest ago.

        Raises ValueError if nobody waits.
        """
        num_running = Counter(sequence.request.tenant for sequence in running)
        return self._queues[min(self._queues, key=lambda name: num_running[name])][0]

    def take(self, sequence: Sequence) -> None:
        """Let a sequence that has got a slot wait no more; its tenant has its next turn after the others."""
        tenant = sequence.request.tenant
        self.remove(sequence)
        if queue := self._queues.pop(tenant, None):
            self._queues[tenant] = queue
