"""The state of the scheduler: which sequence has which row, what each row caches, and which sequences wait.

Where a token has the same bits however its prompt was chunked (`Capabilities.chunk_invariant`), everything that a row
caches is reused, answers included. Elsewhere only whole prefill chunks are reused: a chunk is always the same run of
the same tokens at the same position, so its keys and values have the same bits. Those of a decode step may differ.
Where the model has states that cannot be truncated, a sequence resumes from a snapshot or from the end of a row.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from infrs.engine.scheduling.snapshots import Snapshot
from infrs.engine.scheduling.waiting import WaitingSequences
from infrs.engine.sequence import Sequence

_STRIDE = 64  # tokens compared in one operation


@dataclass(frozen=True, slots=True)
class Slot:
    """One row of the slab. cached: its first tokens, if `tenant` may reuse their keys and values.

    snapshots: within `cached`; None if all states can be truncated. is_current: the states in the row itself cover
    exactly `cached`. last_used, left_at: steps. left_by: tenant and request id of the last sequence, which left the row
    in step `left_at`.
    """

    row: int
    cached: tuple[int, ...] = ()
    tenant: str = ""
    snapshots: tuple[Snapshot, ...] | None = None
    is_current: bool = False
    last_used: int = 0
    left_by: tuple[str, str] = ("", "")
    left_at: int = 0

    def common(self, sequence: Sequence, alignment: int) -> int:
        """Count the cached tokens that a sequence can reuse, a multiple of `alignment`.

        A sequence that has no answer yet leaves one token to compute. A sequence of another tenant reuses none.
        """
        if self.tenant != sequence.request.tenant:
            return 0
        cached, known = self.cached, sequence.tokens[:]
        limit = min(len(cached), sequence.tokens.num_prefill - (not sequence.tokens.output_ids))
        count = 0
        for size in (_STRIDE, 1):
            while count + size <= limit and cached[count : count + size] == known[count : count + size]:
                count += size
        return self.resumable(count // alignment * alignment)

    def resumable(self, num_tokens: int) -> int:
        """Return the last point within the first `num_tokens` cached tokens behind which a sequence can resume."""
        if self.snapshots is None or (self.is_current and num_tokens == len(self.cached)):
            return num_tokens
        return max((each.num_tokens for each in self.snapshots if each.num_tokens <= num_tokens), default=0)

    def snapshot_at(self, num_tokens: int) -> Snapshot | None:
        """Return the snapshot from which a sequence resumes behind `num_tokens` tokens; None if it needs none."""
        if self.snapshots is None or (self.is_current and num_tokens == len(self.cached)):
            return None
        return next((each for each in self.snapshots if each.num_tokens == num_tokens), None)

    def is_within(self, other: Slot) -> bool:
        """Return whether a sequence can resume from another slot wherever it can from this one."""
        size = len(self.cached)
        return (
            self.tenant == other.tenant
            and other.cached[:size] == self.cached
            and other.resumable(size) >= self.resumable(size)
        )

    def cut(self, num_kept: int) -> Slot:
        """Return the slot with only its first `num_kept` tokens, which a sequence is about to continue."""
        kept = self.snapshots and tuple(each for each in self.snapshots if each.num_tokens <= num_kept)
        return replace(self, cached=self.cached[:num_kept], snapshots=kept, is_current=False)


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
    def empty(cls, rows: Iterable[int], *, truncatable: bool) -> Placement:
        """Return a placement of no sequences, with nothing cached. truncatable: all states of the model are."""
        return cls({row: Slot(row, snapshots=None if truncatable else ()) for row in rows}, {}, WaitingSequences())

    def copy(self) -> Placement:
        """Return a copy with slots and running sequences of its own. Slots are immutable."""
        return Placement(self.slots.copy(), self.running.copy(), self.waiting, self.clock, self.num_preemptions)

    def touch(self, row: int) -> None:
        """Mark a row as used in this step."""
        self.slots[row] = replace(self.slots[row], last_used=self.clock)

    def forget(self, row: int, num_kept: int = 0) -> None:
        """Mark what a row caches as lost, but for its first `num_kept` tokens."""
        self.slots[row] = self.slots[row].cut(num_kept)

    def forget_snapshot(self, number: int) -> None:
        """Take a snapshot from all slots that have it."""
        for row, slot in self.slots.items():
            if slot.snapshots and any(each.number == number for each in slot.snapshots):
                kept = tuple(each for each in slot.snapshots if each.number != number)
                self.slots[row] = replace(slot, snapshots=kept)

    def cache(
        self, row: int, sequence: Sequence, num_tokens: int, snapshots: tuple[Snapshot, ...] | None = None
    ) -> None:
        """Mark the first `num_tokens` tokens of a running sequence as cached in its row, with `snapshots`."""
        cached, tenant = sequence.tokens[:num_tokens], sequence.request.tenant
        self.slots[row] = replace(self.slots[row], cached=cached, tenant=tenant, snapshots=snapshots)

    def cache_copy(self, source: int, target: int) -> None:
        """Mark a row as a copy of another."""
        slot, other = self.slots[source], self.slots[target]
        self.slots[target] = replace(
            slot, row=target, last_used=other.last_used, left_by=other.left_by, left_at=other.left_at
        )

    def leave(self, sequence: Sequence, *, caches_answer: bool) -> int:
        """Take a running sequence from its row, which keeps what it caches, and return the row.

        caches_answer: the row caches all tokens that it has, also those behind the prompt.
        """
        row = self.running.pop(sequence)
        slot, tokens, tenant = self.slots[row], sequence.tokens, sequence.request.tenant
        if caches_answer and not tokens.is_prefilling:
            slot = replace(slot, cached=tokens[: tokens.num_computed], tenant=tenant)
        is_current = len(slot.cached) == tokens.num_computed
        left_by = tenant, sequence.request.request_id
        self.slots[row] = replace(
            slot, is_current=is_current, last_used=self.clock, left_by=left_by, left_at=self.clock
        )
        return row
