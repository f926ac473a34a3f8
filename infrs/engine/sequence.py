"""A sequence: one answer to a request, from its prompt to its last token."""

from __future__ import annotations

from functools import partial

from infrs.core import Delta, FinishReason, Request, Usage
from infrs.engine.output import Output, TextDecoder
from infrs.engine.sampling import logits
from infrs.engine.sampling.sequence_sampler import SamplerAhead, SequenceSampler
from infrs.engine.speculation.drafter import Draft, Drafter
from infrs.engine.speculation.lookup import PromptLookup
from infrs.errors import InfrsError


class TokenState:
    """The tokens of a sequence, and how many of them are computed.

    The row of the sequence has the keys and values of the first `num_computed` tokens. While the sequence decodes,
    that is all but the last token, which the next step feeds. `num_reused` tokens of the prompt were cached when the
    sequence began; None before it begins. A slice gives prompt and answer as one tuple.
    """

    __slots__ = ("num_computed", "num_reused", "output_ids", "prompt_ids")

    def __init__(self, prompt_ids: tuple[int, ...]) -> None:
        self.prompt_ids = prompt_ids
        self.output_ids: list[int] = []
        self.num_computed = 0
        self.num_reused: int | None = None

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.output_ids)

    def __getitem__(self, key: slice) -> tuple[int, ...]:
        start, stop, _ = key.indices(len(self))
        num_prompt = len(self.prompt_ids)
        if stop <= num_prompt:
            return self.prompt_ids[start:stop]  # the same tuple, not a copy, if it is the whole prompt
        if start >= num_prompt:
            return tuple(self.output_ids[start - num_prompt : stop - num_prompt])
        return self.prompt_ids[start:] + tuple(self.output_ids[: stop - num_prompt])

    @property
    def num_prefill(self) -> int:
        """Count the tokens to compute before the sequence decodes: the prompt, and the answer but for its last."""
        return len(self.prompt_ids) + max(0, len(self.output_ids) - 1)

    @property
    def is_prefilling(self) -> bool:
        """Return whether some of those tokens are not computed."""
        return self.num_computed < self.num_prefill

    def begin(self, num_cached: int) -> None:
        """Begin, or resume, behind the first `num_cached` tokens, which the row caches."""
        self.num_computed = num_cached
        if self.num_reused is None:
            self.num_reused = num_cached


class Sequence:
    """One answer in the engine. A preempted sequence loses its row, and later resumes with the same output.

    save_points: after how many tokens of the prompt snapshots are saved; ascending. drafter: None for prompt lookup.
    paused: steps leave the sequence out, because its client is behind. It may keep its row.
    """

    def __init__(
        self,
        request: Request,
        decoder: TextDecoder,
        index: int = 0,
        save_points: tuple[int, ...] = (),
        drafter: Drafter | None = None,
    ) -> None:
        self.request = request
        self.index = index
        self.save_points = save_points
        self.tokens = TokenState(request.prompt_ids)
        self.sampler = SequenceSampler(request, index)
        self.output = Output(request.stop, decoder)
        self.drafter = drafter or PromptLookup()
        self.num_preemptions = 0
        self.paused = False

    @property
    def finish_reason(self) -> FinishReason | None:
        """Return why the answer ended; None before it ends."""
        return self.output.finish_reason

    @property
    def scores_prompt(self) -> bool:
        """Return whether prefill scores the prompt's own tokens. Only the first answer does, before its first token."""
        return self.request.prompt_logprobs and self.index == 0 and not self.tokens.output_ids

    def preempt(self) -> None:
        """Lose the row. Reported output stays; log-probabilities of the prompt that are not reported start again."""
        self.num_preemptions += 1
        self.tokens.num_computed = 0
        self.output.prompt_logprobs.clear()

    def draft(self, capacity: int) -> Draft | None:
        """Return a draft that fits into the answer and into a row of `capacity` tokens, or None if there is no room.

        Changes nothing: the drafter takes note of the draft when the step is committed.
        """
        tokens = self.tokens
        room = min(self.request.max_tokens - len(tokens.output_ids), capacity - tokens.num_computed) - 1
        return self.drafter.propose(tokens, room) if room > 0 else None

    def complete(self, draft: Draft, eos_ids: frozenset[int]) -> Draft:
        """Return a draft with all its tokens. Raises nothing, and changes no more than what the drafter caches."""
        ahead = partial(SamplerAhead, self.sampler, eos_ids, len(self.tokens.output_ids))
        return self.drafter.complete(draft, self.tokens, ahead)

    def sample(self, row: logits.Row, eos_ids: frozenset[int], best: int | None = None) -> int:
        """Sample the next token from scores, float32 [vocab_size], which are edited in place.

        best: the argmax of the scores, where it is known. Raises NumericalError if the scores are not finite.
        """
        num_top = self.request.num_logprobs
        scores = row.copy() if num_top is not None else None
        token_id = self.sampler.sample(row, eos_ids, len(self.tokens.output_ids), best)
        if scores is not None:
            self.output.add_logprob(logits.token_logprob(scores, token_id, num_top or 0))
        return token_id

    def append(self, token_id: int, eos_ids: frozenset[int], capacity: int) -> Delta | None:
        """Append a sampled token. Return None if it completes no text and the answer continues.

        An end-of-sequence or stop token has no text. A stop string ends the answer before itself.
        """
        request, tokens = self.request, self.tokens
        tokens.output_ids.append(token_id)
        if self.sampler.is_end(token_id, eos_ids):
            self.output.drop_last_logprob()
            return self.finish(FinishReason.STOP)
        self.sampler.accept(token_id)
        text, stopped = self.output.feed(token_id)
        if stopped:
            return self.finish(FinishReason.STOP, text, flush=False)
        if len(tokens.output_ids) >= request.max_tokens or len(tokens) >= capacity:
            return self.finish(FinishReason.LENGTH, text)
        return self._delta(text) if text or self.output.prompt_logprobs else None

    def finish(
        self, reason: FinishReason, text: str = "", *, flush: bool = True, error: InfrsError | None = None
    ) -> Delta:
        """End the answer with `text` and, unless it failed or a stop string ended it, the text that was held back."""
        self.output.finish_reason = reason
        if flush and error is None:
            text += self.output.flush()
        return self._delta(text, error)

    def _delta(self, text: str, error: InfrsError | None = None) -> Delta:
        tokens, output = self.tokens, self.output
        return Delta(
            request_id=self.request.request_id,
            text=text,
            token_ids=output.take_tokens(tokens.output_ids),
            usage=Usage(len(tokens.prompt_ids), len(tokens.output_ids), tokens.num_reused or 0),
            finish_reason=output.finish_reason,
            error=error,
            index=self.index,
            logprobs=output.take_logprobs(text),
            prompt_logprobs=output.take_prompt_logprobs(),
            stop_string=output.stop_string,
        )
