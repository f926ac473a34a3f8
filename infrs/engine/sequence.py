"""A sequence: one answer in the making."""

from __future__ import annotations

from typing import Protocol

from infrs.core import Delta, FinishReason, Request, Usage
from infrs.engine.sampler import new_generator
from infrs.errors import InfrsError
from infrs.text.stop import StopMatcher


class TextDecoder(Protocol):
    """Token ids in, whole characters out (`infrs.text.detokenizer`)."""

    def feed(self, token_id: int) -> str:
        """The text that this token completes."""

    def flush(self) -> str:
        """The text that was held back."""


class Sequence:
    """State of one request in the engine; every other count is derived from it.

    `num_computed_tokens` of its tokens have their keys and values in its slot, the first `num_reused_tokens` of them
    from an earlier prompt. While it decodes, that is all but the last token, which the next step feeds.
    """

    def __init__(self, request: Request, decoder: TextDecoder) -> None:
        self.request = request
        self.output_ids: list[int] = []
        self.num_computed_tokens = 0
        self.num_reused_tokens = 0
        self.generator = new_generator(request.sampling.seed)
        self.finish_reason: FinishReason | None = None
        self._decoder = decoder
        self._stop = StopMatcher(request.stop)
        self._num_reported = 0

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens of the prompt."""
        return len(self.request.prompt_ids)

    @property
    def is_prefilling(self) -> bool:
        """Whether part of the prompt is still to be computed."""
        return self.num_computed_tokens < self.num_prompt_tokens

    @property
    def usage(self) -> Usage:
        """Token counts so far."""
        return Usage(self.num_prompt_tokens, len(self.output_ids), self.num_reused_tokens)

    def append(self, token_id: int, eos_ids: frozenset[int], capacity: int) -> Delta | None:
        """Take a sampled token; None if no text is complete and the sequence goes on.

        An end-of-sequence or stop token gives no text. A stop string ends the answer before itself.
        """
        self.output_ids.append(token_id)
        request = self.request
        ends = token_id in request.stop_token_ids or (token_id in eos_ids and not request.ignore_eos)
        text, stopped = ("", False) if ends else self._stop.feed(self._decoder.feed(token_id))
        if ends or stopped:
            return self.finish(FinishReason.STOP, text, flush=not stopped)
        if len(self.output_ids) >= request.max_tokens or self.num_prompt_tokens + len(self.output_ids) >= capacity:
            return self.finish(FinishReason.LENGTH, text)
        return self._delta(text) if text else None

    def finish(
        self, reason: FinishReason, text: str = "", *, flush: bool = True, error: InfrsError | None = None
    ) -> Delta:
        """End the sequence with `text` and, unless a stop string cut it, what was held back."""
        self.finish_reason = reason
        if flush:
            held, stopped = self._stop.feed(self._decoder.flush())
            text += held
            if stopped:
                self.finish_reason = FinishReason.STOP
            else:
                text += self._stop.flush()
        return self._delta(text, error)

    def _delta(self, text: str, error: InfrsError | None = None) -> Delta:
        new_ids = tuple(self.output_ids[self._num_reported :])
        self._num_reported = len(self.output_ids)
        return Delta(self.request.request_id, text, new_ids, self.usage, self.finish_reason, error)
