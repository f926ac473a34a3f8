"""The sampler of one sequence: its generator, penalties and grammar."""

from __future__ import annotations

from collections import Counter

from infrs.core import Request
from infrs.engine.sampling import logits
from infrs.engine.sampling.sampler import new_generator, sample


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

    def _edit(self, row: logits.Row, eos_ids: frozenset[int], num_output: int) -> None:
        request = self._request
        if self._counts is not None:
            logits.penalize(row, request.sampling, request.prompt_ids, self._counts)
        if num_output < request.min_tokens:
            logits.forbid(row, eos_ids | request.stop_token_ids)
        if self._grammar is not None:
            logits.allow_only(row, self._grammar.allowed())
