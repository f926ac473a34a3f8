"""The sampler of one sequence: its generator, penalties and grammar."""

from __future__ import annotations

import copy
import math
from collections import Counter

from infrs.core import Request
from infrs.engine.sampling import logits
from infrs.engine.sampling.sampler import new_generator, sample
from infrs.engine.speculation.drafter import Next


class SequenceSampler:
    """Sample the tokens of one answer, as its request asks.

    `edits_scores` is false if every token is sampled from the model's own scores.
    """

    def __init__(self, request: Request, index: int) -> None:
        self._request = request
        self._generator = new_generator(request.sampling.seed, index)
        self._grammar = request.grammar.start() if request.grammar else None
        self._counts: Counter[int] | None = Counter() if logits.changes(request.sampling) else None
        self.edits_scores = bool(self._counts is not None or self._grammar is not None or request.min_tokens)

    def sample(self, row: logits.Row, eos_ids: frozenset[int], num_output: int, best: int | None = None) -> int:
        """Sample a token from scores, float32 [vocab_size], which are edited in place.

        num_output: tokens that the answer has. best: the argmax of the unedited scores, where it is known.
        Raises NumericalError if the scores are not finite.
        """
        if self.edits_scores:
            best = None
            self._edit(row, eos_ids, num_output)
        return sample(row, self._request.sampling, self._generator, best)

    def accept(self, token_id: int) -> None:
        """Record a sampled token that does not end the answer. Raises EngineError if the grammar fails."""
        if self._counts is not None:
            self._counts[token_id] += 1
        if self._grammar is not None:
            self._grammar.accept(token_id)

    def copy(self) -> SequenceSampler:
        """Return a sampler that draws the same tokens from the same scores, and changes independently."""
        other = copy.copy(self)
        other._generator = copy.deepcopy(self._generator)
        other._grammar = self._grammar and self._grammar.copy()
        other._counts = copy.copy(self._counts)
        return other

    def is_end(self, token_id: int, eos_ids: frozenset[int]) -> bool:
        """Return whether a token ends the answer and has no text."""
        request = self._request
        return token_id in request.stop_token_ids or (token_id in eos_ids and not request.ignore_eos)

    def _edit(self, row: logits.Row, eos_ids: frozenset[int], num_output: int) -> None:
        request = self._request
        if self._counts is not None:
            logits.penalize(row, request.sampling, request.prompt_ids, self._counts)
        if num_output < request.min_tokens:
            logits.forbid(row, eos_ids | request.stop_token_ids)
        if self._grammar is not None:
            logits.allow_only(row, self._grammar.allowed())


class SamplerAhead:
    """Sample the tokens that may come next from the scores of another model. The answer's sampler does not change.

    With the answer's own draws, edits and grammar, similar scores give the same token more often than the most likely
    token is drawn.
    """

    def __init__(self, sampler: SequenceSampler, eos_ids: frozenset[int], num_output: int) -> None:
        self._sampler, self._eos_ids, self._num_output = sampler.copy(), eos_ids, num_output

    def next(self, row: logits.Row) -> Next:
        """See Ahead.next. Raises as `SequenceSampler.sample` and `accept` do."""
        token_id = self._sampler.sample(row, self._eos_ids, self._num_output)
        is_end = self._sampler.is_end(token_id, self._eos_ids)
        if not is_end:
            self._sampler.accept(token_id)
            self._num_output += 1
        return Next(token_id, math.exp(float(row[token_id]) - logits.log_normalizer(row)), is_end)
