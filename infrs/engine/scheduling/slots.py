"""Slots: the rows of the slab, and the tokens that they still hold.

Where a token has the same bits however its sequence was cut into runs (`Capabilities.chunk_invariant`), all that a row
holds is reused, answers included. Elsewhere only whole prefill chunks are: a chunk is always the same run of the same
tokens at the same place, so its keys and values have the same bits whoever computed them, while those of a decode step
may differ in the last bit, and answers are computed again when they come back as part of a prompt.
"""

from __future__ import annotations

from collections.abc import Container, Iterator

from infrs.engine.runners.runner import Runner
from infrs.engine.scheduling.plan import Copy
from infrs.engine.sequence import Sequence

_STRIDE = 64  # tokens compared at once
_MIN_KEPT = 64  # tokens; fewer are computed again as fast as they are copied


class Slot:
    """One row of the slab. `held` are the tokens at its beginning that may be reused."""

    def __init__(self, row: int) -> None:
        self.row = row
        self.held: tuple[int, ...] = ()
        self.tenant = ""
        self.last_used = 0
        self.left_by, self.left_at = "", 0  # the tenant whose sequence had it last, and the step of its end

    def hold(self, sequence: Sequence, num_tokens: int) -> None:
        """Note that the row begins with `num_tokens` of a sequence's prompt and answer."""
        self.held = sequence.token_ids[:num_tokens]
        self.tenant = sequence.request.tenant

    def common(self, sequence: Sequence, grain: int) -> int:
        """Tokens of `held` that a sequence of the same tenant begins with, in whole grains; one is left to compute."""
        if self.tenant != sequence.request.tenant:
            return 0
        held, known = self.held, sequence.token_ids
        limit = min(len(held), sequence.num_prefill_tokens - 1)
        count = 0
        for size in (_STRIDE, 1):
            while count + size <= limit and held[count : count + size] == known[count : count + size]:
                count += size
        return count // grain * grain

    def is_within(self, other: Slot) -> bool:
        """Whether another slot begins with all that this one holds, for the same tenant."""
        return self.tenant == other.tenant and other.held[: len(self.held)] == self.held

    def take_over(self, other: Slot, clock: int) -> None:
        """Note that the row is now a copy of another."""
        self.held, self.tenant, self.last_used = other.held, other.tenant, clock


class Slots:
    """All rows of the slab: those `serving` sequences, and `spare` ones for what the others have to give up.

    What a row holds is reused in multiples of `grain` tokens. `clock` counts the steps.
    """

    def __init__(self, runner: Runner, grain: int) -> None:
        self.serving = [Slot(row) for row in range(runner.num_rows)]
        self.spare = [Slot(row) for row in runner.spare_rows]
        self.grain = grain
        self.clock = 0

    def __iter__(self) -> Iterator[Slot]:
        yield from self.serving
        yield from self.spare

    def free(self, taken: Container[Slot]) -> list[Slot]:
        """The slots that a sequence may have, in the order of their rows."""
        return [slot for slot in self.serving if slot not in taken]

    def forget(self) -> None:
        """Trust no row any more."""
        for slot in self:
            slot.held = ()

    def prefix(self, sequence: Sequence, slot: Slot) -> tuple[Slot, int]:
        """The slot that holds most of a sequence's beginning, and how much: its own as soon as it has begun."""
        if sequence.num_computed_tokens or sequence.scores_prompt:
            return slot, sequence.num_computed_tokens
        source = max(self, key=lambda other: (other.common(sequence, self.grain), other is slot))
        return source, source.common(sequence, self.grain)

    def give(self, sequence: Sequence, choice: list[Slot]) -> tuple[Slot, Iterator[Copy]]:
        """The slot of a choice that suits a sequence best, and the copy that keeps what it loses."""
        slot = max(choice, key=lambda slot: (slot.common(sequence, self.grain), -slot.last_used))
        self.prefix(sequence, slot)[0].last_used = self.clock  # not the row to give up now
        return slot, self.keep(slot, slot.common(sequence, self.grain))

    def keep(self, slot: Slot, num_staying: int) -> Iterator[Copy]:
        """Copy what a slot holds to a spare row, before all but its first `num_staying` tokens are written over."""
        spare = [other for other in self.spare if other.last_used < self.clock]  # the others are for this step
        if not spare or len(slot.held) - num_staying < _MIN_KEPT:
            return
        if any(slot.is_within(other) for other in self if other is not slot):
            return
        target = max(spare, key=lambda other: (other.is_within(slot), -other.last_used))
        target.take_over(slot, self.clock)
        yield Copy(slot.row, target.row, len(slot.held))
