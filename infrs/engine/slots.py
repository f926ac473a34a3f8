"""Slots: the rows of the slab, and the tokens that they still hold.

Where a token has the same bits however its sequence was cut into runs (`Runner.chunk_invariant`), all that a row holds
is reused, answers included. Elsewhere only whole prefill chunks are: a chunk is always the same run of the same tokens
at the same place, so its keys and values have the same bits whoever computed them, while those of a decode step may
differ in the last bit, and answers are computed again when they come back as part of a prompt.
"""

from __future__ import annotations

from infrs.engine.sequence import Sequence

_STRIDE = 64  # tokens compared at once


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
