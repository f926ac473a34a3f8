"""The state of the scheduler: which sequence has which row, what each row caches, and which sequences wait.

Where a token has the same bits however its prompt was chunked (`Capabilities.chunk_invariant`), everything that a row
caches is reused, answers included. Elsewhere only whole prefill chunks are reused: a chunk is always the same run of
the same tokens at the same position, so its keys and values have the same bits. Those of a decode step may differ.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from infrs.engine.scheduling.waiting import WaitingSequences
from infrs.engine.sequence import Sequence

_STRIDE = 64  # tokens compared in one operation


@dataclass(frozen=True, slots=True)
class Slot:
    """One row of the slab. cached: its first tokens, if `tenant` may reuse their keys and values.

    last_used, left_at: steps. left_by: the tenant of the last sequence, which left the row in step `left_at`.
    """

    row: int
    cached: tuple[int, ...] = ()
    tenant: str = ""
    last_used: int = 0
    left_by: str = ""
    left_at: int = 0

    def common(self, sequence: Sequence, alignment: int) -> int:
        """Count the cached tokens that a sequence can reuse, a multiple of `alignment`.

        One token is left to compute. A sequence of another tenant reuses none.
        """
        if self.tenant != sequence.request.tenant:
            return 0
        cached, known = self.cached, sequence.tokens[:]
        limit = min(len(cached), sequence.tokens.num_prefill - 1)
        count = 0
        for size in (_STRIDE, 1):
            while count + size <= limit and cached[count : count + size] == known[count : count + size]:
                count += size
        return count // alignment * alignment

    def is_within(self, other: Slot) -> bool:
        """Return whether another slot begins with all that this one caches, for the same tenant."""
        return self.tenant == other.tenant and other.cached[: len(self.cached)] == self.cached


@dataclass(slots=True)
class Placement:
    """Slots by row, the rows of the running sequences in the order they got them, and the waiting sequences.

    `clock` counts the steps. A copy shares `waiting` with the original: replace it before changing it.
    """

    slots: dict[int, Slot]
    running: dict[Sequence, int]
    waiting: WaitingSequences
    clock: int = 0
    num_preemptions: int = 0

    @classmethod
    def empty(cls, rows: Iterable[int]) -> Placement:
        """Return a placement of no sequences, with nothing cached."""
        return cls({row: Slot(row) for row in rows}, {}, WaitingSequences())

    def copy(self) -> Placement:
        """Return a copy with slots and running sequences of its own. Slots are immutable."""
        return Placement(self.slots.copy(), self.running.copy(), self.waiting, self.clock, self.num_preemptions)

    def touch(self, row: int) -> None:
        """Mark a row as used in this step."""
        self.slots[row] = replace(self.slots[row], last_used=self.clock)

    def forget(self, row: int, num_kept: int = 0) -> None:
        """Mark what a row caches as lost, but for its first `num_kept` tokens."""
        slot = self.slots[row]
        if len(slot.cached) > num_kept:
            self.slots[row] = replace(slot, cached=slot.cached[:num_kept])

    def cache(self, row: int, sequence: Sequence, num_tokens: int) -> None:
        """Mark the first `num_tokens` tokens of a sequence as cached in a row."""
        cached, tenant = sequence.tokens[:num_tokens], sequence.request.tenant
        self.slots[row] = replace(self.slots[row], cached=cached, tenant=tenant)

    def cache_copy(self, source: int, target: int) -> None:
        """Mark a row as a copy of another."""
        slot = self.slots[source]
        self.slots[target] = replace(self.slots[target], cached=slot.cached, tenant=slot.tenant)

    def leave(self, sequence: Sequence) -> int:
        """Take a running sequence from its row, which keeps what it caches, and return the row."""
        row = self.running.pop(sequence)
        tenant, clock = sequence.request.tenant, self.clock
        self.slots[row] = replace(self.slots[row], last_used=clock, left_by=tenant, left_at=clock)
        return row
