"""A sequence: one answer in the making."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from infrs.core import Delta, FinishReason, Request, TokenLogprob, Usage
from infrs.engine.sampling import logits
from infrs.engine.sampling.sampler import new_generator, sample
from infrs.engine.speculation import PromptLookup
from infrs.errors import InfrsError
from infrs.text.stop import StopMatcher


class TextDecoder(Protocol):
    """Token ids in, whole characters out (`infrs.text.detokenizer`)."""

    def feed(self, token_id: int) -> str:
        """The text that this token completes."""

    def flush(self) -> str:
        """The text that was held back."""


class Sequence:
    """State of one answer in the engine; every other count is derived from it.

    `num_computed_tokens` of its tokens have their keys and values in its slot. While it decodes, that is all but the
    last token, which the next step feeds. Of its prompt, `num_reused_tokens` were there when it began, from an earlier
    one; None while it has not begun. It was put out of a slot `num_preemptions` times, and goes on as if it never was.
    """

    def __init__(self, request: Request, decoder: TextDecoder, index: int = 0) -> None:
        self.request = request
        self.index = index
        self.output_ids: list[int] = []
        self.num_computed_tokens = 0
        self.num_reused_tokens: int | None = None
        self.num_preemptions = 0
        self.finish_reason: FinishReason | None = None
        self.prompt_logprobs: list[TokenLogprob] = []
        self.lookup = PromptLookup()
        # Of output_ids, kept beside them where a penalty needs it at every token.
        self._counts: Counter[int] | None = Counter() if logits.changes(request.sampling) else None
        self._text: list[int] = []  # prompt and answer, as of the last guess
        self._generator = new_generator(request.sampling.seed, index)
        self._grammar = request.grammar.start() if request.grammar else None
        # Whether a token may be drawn from other scores than the model's own.
        self.edits_scores = bool(self._counts is not None or self._grammar is not None or request.min_tokens)
        self._decoder = decoder
        self._stop = StopMatcher(request.stop)
        self._num_reported = 0
        self._num_decoded = 0  # characters, of which the first _num_shown have been reported
        self._num_shown = 0
        self._logprobs: list[tuple[int, TokenLogprob]] = []  # not reported yet, with the character where each begins

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens of the prompt."""
        return len(self.request.prompt_ids)

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Its prompt and its answer so far."""
        return self.request.prompt_ids + tuple(self.output_ids)

    @property
    def num_prefill_tokens(self) -> int:
        """Tokens to be computed before it decodes: its prompt, and what its answer had but for the last token."""
        return self.num_prompt_tokens + max(0, len(self.output_ids) - 1)

    @property
    def is_prefilling(self) -> bool:
        """Whether some of them are still to be computed."""
        return self.num_computed_tokens < self.num_prefill_tokens

    @property
    def scores_prompt(self) -> bool:
        """Whether the prompt's own tokens are to be scored, which only one of the answers does, when it begins."""
        return self.request.prompt_logprobs and self.index == 0 and not self.output_ids

    @property
    def usage(self) -> Usage:
        """Token counts so far."""
        return Usage(self.num_prompt_tokens, len(self.output_ids), self.num_reused_tokens or 0)

    def reuse(self, num_tokens: int) -> None:
        """Begin, or go on, behind the first `num_tokens` tokens, which its slot has."""
        self.num_computed_tokens = num_tokens
        if self.num_reused_tokens is None:
            self.num_reused_tokens = num_tokens

    def preempt(self) -> None:
        """Lose the slot: what has been told stands, what has not of the prompt's scores is computed again."""
        self.num_preemptions += 1
        self.num_computed_tokens = 0
        self.prompt_logprobs.clear()

    def guess(self, capacity: int) -> tuple[int, ...]:
        """Tokens that may come next, no more than the answer and a row of `capacity` tokens have room for."""
        room = min(self.request.max_tokens - len(self.output_ids), capacity - self.num_computed_tokens) - 1
        if room <= 0:
            return ()
        self._text += self.request.prompt_ids[len(self._text) :]
        self._text += self.output_ids[len(self._text) - self.num_prompt_tokens :]
        return self.lookup.guess(self._text, room)

    def sample(self, row: logits.Row, eos_ids: frozenset[int], best: int | None = None) -> int:
        """Draw the next token from a row of scores, which is edited in place. `best`: its argmax, where it is known.

        Raises NumericalError if the scores are not finite.
        """
        request = self.request
        scored = row.copy() if request.num_logprobs is not None else None
        if self.edits_scores:
            best = None
            self._edit(row, eos_ids)
        token_id = sample(row, request.sampling, self._generator, best)
        if scored is not None:
            entry = logits.token_logprob(scored, token_id, request.num_logprobs or 0)
            self._logprobs.append((self._num_decoded, entry))
        return token_id

    def _edit(self, row: logits.Row, eos_ids: frozenset[int]) -> None:
        request = self.request
        if self._counts is not None:
            logits.penalize(row, request.sampling, request.prompt_ids, self._counts)
        if len(self.output_ids) < request.min_tokens:
            logits.forbid(row, eos_ids | request.stop_token_ids)
        if self._grammar is not None:
            logits.allow_only(row, self._grammar.allowed())

    def append(self, token_id: int, eos_ids: frozenset[int], capacity: int) -> Delta | None:
        """Take a drawn token; None if no text is complete and the answer goes on.

        An end-of-sequence or stop token gives no text. A stop string ends the answer before itself.
        """
        self.output_ids.append(token_id)
        if self._counts is not None:
            self._counts[token_id] += 1
        request = self.request
        if token_id in request.stop_token_ids or (token_id in eos_ids and not request.ignore_eos):
            return self.finish(FinishReason.STOP)
        if self._grammar is not None:
            self._grammar.accept(token_id)
        text, stopped = self._feed(self._decoder.feed(token_id))
        if stopped:
            return self.finish(FinishReason.STOP, text, flush=False)
        if len(self.output_ids) >= request.max_tokens or self.num_prompt_tokens + len(self.output_ids) >= capacity:
            return self.finish(FinishReason.LENGTH, text)
        return self._delta(text) if text or self.prompt_logprobs else None

    def finish(
        self, reason: FinishReason, text: str = "", *, flush: bool = True, error: InfrsError | None = None
    ) -> Delta:
        """End the answer with `text` and, unless a stop string cut it or it failed, what was held back."""
        self.finish_reason = reason
        if flush and error is None:
            held, stopped = self._feed(self._decoder.flush())
            text += held
            if stopped:
                self.finish_reason = FinishReason.STOP
            else:
                text += self._stop.flush()
        return self._delta(text, error)

    def _feed(self, text: str) -> tuple[str, bool]:
        """Pass decoded text through the stop strings: what may be shown, and whether one of them ends the answer."""
        self._num_decoded += len(text)
        return self._stop.feed(text)

    def _delta(self, text: str, error: InfrsError | None = None) -> Delta:
        new_ids = tuple(self.output_ids[self._num_reported :])
        self._num_reported = len(self.output_ids)
        self._num_shown += len(text)
        prompt_logprobs, self.prompt_logprobs = tuple(self.prompt_logprobs), []
        return Delta(
            request_id=self.request.request_id,
            text=text,
            token_ids=new_ids,
            usage=self.usage,
            finish_reason=self.finish_reason,
            error=error,
            index=self.index,
            logprobs=self._take_logprobs(),
            prompt_logprobs=prompt_logprobs,
            stop_string=self._stop.found,
        )

    def _take_logprobs(self) -> tuple[TokenLogprob, ...]:
        """Those of tokens whose text is shown; what a stop cut off, the end token included, has none."""
        if not self._logprobs:
            return ()
        if self.finish_reason is FinishReason.LENGTH:
            taken = self._logprobs
        else:
            taken = [item for item in self._logprobs if item[0] < self._num_shown]
        self._logprobs = self._logprobs[len(taken) :]
        return tuple(entry for _, entry in taken)
