"""Slots: the rows of the slab, and the prompts that they still hold.

Only whole prefill chunks are reused. A chunk is always the same run of the same tokens at the same place, so its keys
and values have the same bits whoever computed them; those of a decode step may differ in the last bit, so answers are
computed again when they come back as part of a prompt.
"""

from __future__ import annotations

from infrs.core import Request


class Slot:
    """One row of the slab. `held` are the prompt tokens of the whole chunks that lie at its beginning."""

    def __init__(self, row: int) -> None:
        self.row = row
        self.held: tuple[int, ...] = ()
        self.tenant = ""
        self.last_used = 0

    def hold(self, request: Request, num_tokens: int) -> None:
        """Note that the row begins with `num_tokens` of a request's prompt, whole chunks."""
        self.held = request.prompt_ids[:num_tokens]
        self.tenant = request.tenant

    def common(self, request: Request, chunk: int) -> int:
        """Tokens of `held` that a request of the same tenant begins with, leaving it at least one to compute."""
        if self.tenant != request.tenant:
            return 0
        prompt = request.prompt_ids
        limit = min(len(self.held), (len(prompt) - 1) // chunk * chunk)
        count = 0
        while count < limit and self.held[count : count + chunk] == prompt[count : count + chunk]:
            count += chunk
        return count
