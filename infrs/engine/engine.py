"""The engine: plan, run, sample, commit. No threads, no wire, no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from infrs.core import Delta, FinishReason, Request
from infrs.engine.runners.runner import Runner, Segment
from infrs.engine.sampling.logits import Row, token_logprob
from infrs.engine.sampling.sampler import NumericalError
from infrs.engine.scheduling.plan import Copy, Decode, Prefill
from infrs.engine.scheduling.scheduler import Scheduler
from infrs.engine.sequence import Sequence, TextDecoder
from infrs.errors import ContextLengthError, EngineError, InfrsError, OutOfMemoryError


class Engine:
    """Continuous batching over a runner: sequences join and leave between any two steps."""

    def __init__(
        self, runner: Runner, new_decoder: Callable[[], TextDecoder], eos_ids: frozenset[int], prefill_chunk: int
    ) -> None:
        self.runner = runner
        self.scheduler = Scheduler(runner, prefill_chunk)
        self.num_steps = 0
        self.num_guessed_tokens = 0
        self.num_confirmed_tokens = 0
        self._new_decoder = new_decoder
        self._eos_ids = eos_ids

    def submit(self, request: Request) -> None:
        """Queue a request.

        Raises ContextLengthError if its prompt leaves no room for a token.
        """
        if len(request.prompt_ids) >= self.runner.capacity:
            raise ContextLengthError(
                f"the prompt has {len(request.prompt_ids)} tokens, but prompt and answer share a context of "
                f"{self.runner.capacity}; shorten the prompt",
                param="messages",
            )
        for index in range(request.num_choices):
            self.scheduler.waiting.append(Sequence(request, self._new_decoder(), index))

    def cancel(self, request_id: str) -> list[Delta]:
        """End a request's answers now; their rows are free for the next step. Empty if none is here any more."""
        deltas = []
        for sequence in self.scheduler.find(request_id):
            self.scheduler.remove(sequence)
            deltas.append(sequence.finish(FinishReason.CANCELLED))
        return deltas

    def step(self) -> list[Delta]:
        """Compute one token of every decoding sequence and at most one chunk of prompts.

        Sequences whose run fails end with an error; the others go on.
        """
        plan = self.scheduler.plan()
        if plan is None:
            return []
        self.num_steps += 1
        deltas: list[Delta] = []
        for move in plan.moves:
            self._copy(move)
        if plan.decode is not None:
            deltas += self._check(plan.decode) if plan.decode.guess else self._decode(plan.decode)
        for prefill in plan.prefills:
            deltas += self._prefill(prefill)
        return deltas

    def fail_all(self, error: InfrsError) -> list[Delta]:
        """End everything that runs or waits with `error`."""
        return [sequence.finish(FinishReason.ERROR, error=error) for sequence in self.scheduler.forget_all()]

    def _decode(self, decode: Decode) -> Iterator[Delta]:
        sequences = [sequence for sequence in decode.rows if sequence is not None]
        segments = [
            Segment(row, position, (sequence.output_ids[-1],), (0,)) if sequence else Segment(row, position, ())
            for row, (sequence, position) in enumerate(zip(decode.rows, decode.positions, strict=True), decode.first)
        ]
        try:
            logits = self.runner.run(segments)
        except Exception as error:  # ONNX Runtime's exceptions have no common type
            yield from self._fail(sequences, as_failure(error))
            return
        as_they_are = [not sequence.edits_scores for sequence in sequences]
        best = logits.argmax(axis=1).tolist() if any(as_they_are) else [None] * len(sequences)  # one call for all rows
        for sequence, row, token_id in zip(sequences, logits, best, strict=True):
            sequence.num_computed_tokens += 1
            yield from self._commit(sequence, row, token_id)

    def _check(self, decode: Decode) -> Iterator[Delta]:
        """Draw a token, and one more for each token of the guess that is the one drawn."""
        [sequence], [position], guess = decode.rows, decode.positions, decode.guess
        assert sequence is not None  # noqa: S101 (a guess is a sequence's)
        tokens = (sequence.output_ids[-1], *guess)
        try:
            logits = self.runner.run([Segment(decode.first, position, tokens, range(len(tokens)))])
        except Exception as error:
            yield from self._fail([sequence], as_failure(error))
            return
        num_confirmed = 0
        for row, guessed in zip(logits, (*guess, None), strict=True):
            sequence.num_computed_tokens += 1
            yield from self._commit(sequence, row)
            if sequence.finish_reason is not None or sequence.output_ids[-1] != guessed:
                break
            num_confirmed += 1
        sequence.lookup.learn(len(guess), num_confirmed)
        self.num_guessed_tokens += len(guess)
        self.num_confirmed_tokens += num_confirmed

    def _prefill(self, prefill: Prefill) -> Iterator[Delta]:
        sequence = prefill.sequence
        tokens = sequence.token_ids[prefill.start : prefill.end]
        try:
            if prefill.prefix is not None:
                self._copy(prefill.prefix)
            num_scored = len(tokens) if sequence.scores_prompt else int(prefill.draws)
            scored = range(len(tokens) - num_scored, len(tokens))
            logits = self.runner.run([Segment(prefill.row, prefill.start, tokens, scored)])
        except Exception as error:
            yield from self._fail([sequence], as_failure(error))
            return
        self.scheduler.computed(prefill)
        if sequence.scores_prompt:
            following = sequence.request.prompt_ids[prefill.start + 1 : prefill.end + 1]
            num_top = sequence.request.num_logprobs or 0
            known = zip(logits, following, strict=False)  # the last row of the last chunk has none to follow
            try:
                sequence.prompt_logprobs += [token_logprob(row, token_id, num_top) for row, token_id in known]
            except NumericalError as error:
                yield from self._fail([sequence], error)
                return
        if prefill.draws:
            yield from self._begin(sequence, logits[-1])

    def _begin(self, sequence: Sequence, row: Row) -> Iterator[Delta]:
        """Draw the first token of an answer, and of its siblings, who take over the prompt's keys and values."""
        siblings = self.scheduler.siblings(sequence)
        for sibling in siblings:
            self._copy(self.scheduler.adopt(sequence, sibling))
        for each in (sequence, *siblings):
            yield from self._commit(each, row.copy())

    def _copy(self, copy: Copy) -> None:
        self.runner.store.copy(copy.source, copy.target, copy.num_tokens)

    def _commit(self, sequence: Sequence, row: Row, best: int | None = None) -> Iterator[Delta]:
        """Draw a token from a row of scores, whose argmax is `best` where it is known, and give it to its sequence."""
        delta: Delta | None
        if sequence.request.max_tokens == 0:
            delta = sequence.finish(FinishReason.LENGTH)
        else:
            try:
                token_id = sequence.sample(row, self._eos_ids, best)
                delta = sequence.append(token_id, self._eos_ids, self.runner.capacity)
            except Exception as error:  # scores that are not finite, a grammar or a decoder that fails
                yield from self._fail([sequence], as_failure(error))
                return
        if sequence.finish_reason is not None:
            self.scheduler.remove(sequence)
        if delta is not None:
            yield delta

    def _fail(self, sequences: Iterable[Sequence], error: InfrsError) -> Iterator[Delta]:
        for sequence in sequences:
            self.scheduler.forget(sequence)
            yield sequence.finish(FinishReason.ERROR, error=error)


def as_failure(error: Exception) -> InfrsError:
    """What a request that met an exception in a step ends with."""
    if isinstance(error, InfrsError):
        return error
    if isinstance(error, MemoryError):
        return OutOfMemoryError("the server is short of memory; try again in a moment")
    reason = " ".join(str(error).split())[:200]
    return EngineError(f"the model could not be run ({type(error).__name__}: {reason}); try again")
