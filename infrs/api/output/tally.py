"""Token counts over all answers of one request."""

from __future__ import annotations

from dataclasses import replace

from infrs.core import Delta, Usage


class Tally:
    """Sums the tokens of a request's answers. A prompt counts once, however many answers share it."""

    def __init__(self) -> None:
        self._prompts: dict[str, Usage] = {}  # by request id, from the first answer
        self._num_output: dict[tuple[str, int], int] = {}

    def count(self, delta: Delta) -> None:
        """Count a delta. Its usage is that of its answer so far."""
        if delta.index == 0 or delta.request_id not in self._prompts:
            usage = delta.usage if delta.index == 0 else replace(delta.usage, num_reused_tokens=0)
            self._prompts[delta.request_id] = (
                usage  # the other answers share the first one's prompt, which is no cache hit
            )
        self._num_output[delta.request_id, delta.index] = delta.usage.num_output_tokens

    @property
    def usage(self) -> Usage:
        """The sums so far."""
        prompts = self._prompts.values()
        return Usage(
            num_prompt_tokens=sum(usage.num_prompt_tokens for usage in prompts),
            num_output_tokens=sum(self._num_output.values()),
            num_reused_tokens=sum(usage.num_reused_tokens for usage in prompts),
        )
