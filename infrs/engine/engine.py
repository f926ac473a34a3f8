"""The engine: plan, run, sample, commit. It has no threads, no HTTP and no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Sequence as Tokens

from infrs.core import Delta, FinishReason, Request
from infrs.engine.output import TextDecoder
from infrs.engine.runners.runner import Runner, Segment
from infrs.engine.runners.session import Logits
from infrs.engine.sampling.logits import Row, token_logprob
from infrs.engine.scheduling.plan import Copy, Decode, Prefill, StepResults
from infrs.engine.scheduling.planner import SchedulingPolicy
from infrs.engine.scheduling.scheduler import Scheduler
from infrs.engine.sequence import Sequence
from infrs.engine.speculation.draft_model import DraftModel
from infrs.engine.speculation.model_drafter import ModelDrafter
from infrs.errors import ContextLengthError, EngineError, InfrsError, OutOfMemoryError

_POLICY = SchedulingPolicy()


class Engine:
    """Continuous batching over a runner: sequences join and leave between any two steps."""

    def __init__(
        self,
        runner: Runner,
        new_decoder: Callable[[], TextDecoder],
        eos_ids: frozenset[int],
        prefill_chunk: int,
        policy: SchedulingPolicy = _POLICY,
        *,
        draft_model: DraftModel | None = None,
    ) -> None:
        self.runner = runner
        self.draft_model = draft_model
        self.scheduler = Scheduler(runner, prefill_chunk, policy)
        self.num_steps = 0
        self.num_draft_tokens = 0
        self.num_accepted_tokens = 0
        self.num_model_draft_tokens = 0
        self.num_model_accepted_tokens = 0
        self._new_decoder = new_decoder
        self._eos_ids = eos_ids

    @property
    def max_cache_bytes(self) -> int:
        """Return the memory that all rows take once they are full, with those of the draft model."""
        return self.runner.store.max_bytes + (0 if self.draft_model is None else self.draft_model.store.max_bytes)

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
        points = self.scheduler.save_points(request.prompt_ids, self._eos_ids)
        for index in range(request.num_choices):
            drafter = None if self.draft_model is None else ModelDrafter(self.draft_model, request.tenant)
            self.scheduler.waiting.append(Sequence(request, self._new_decoder(), index, points, drafter))

    def cancel(self, request_id: str) -> list[Delta]:
        """End the answers of a request. Their rows are free for the next step. Empty if the request has ended."""
        deltas = []
        for sequence in self.scheduler.find(request_id):
            self.scheduler.remove(sequence)
            deltas.append(sequence.finish(FinishReason.CANCELLED))
        return deltas

    def set_paused(self, request_id: str, paused: bool) -> None:
        """Leave the answers of a request out of the steps to come, or take them in again. Their bits do not change."""
        for sequence in self.scheduler.find(request_id):
            sequence.paused = paused

    def step(self) -> list[Delta]:
        """Compute one token of every decoding sequence and at most one chunk of prompts.

        A copy or run that fails ends the sequences that need it with an error, and no others. The scheduler changes
        only in `commit`: if a step raises, the scheduler is as it was before.
        """
        plan = self.scheduler.plan()
        if plan is None:
            return []
        results = StepResults()
        for copy in plan.copies:
            self._copy(copy, results)
        if plan.decode is not None:
            self._decode(plan.decode, results)
        for prefill in plan.prefills:
            self._prefill(prefill, results)
        self.scheduler.commit(plan, results)
        self.num_steps += 1
        self.num_draft_tokens += results.num_draft_tokens
        self.num_accepted_tokens += results.num_accepted_tokens
        if results.draft is not None and results.draft.reading is not None:
            self.num_model_draft_tokens += results.num_draft_tokens
            self.num_model_accepted_tokens += results.num_accepted_tokens
        return results.deltas

    def release_cache(self) -> bool:
        """Return the memory of all cached tokens to the system, and whether there were any. The engine must be idle."""
        if not any(slot.cached for slot in self.scheduler.placement.slots.values()):
            return False
        self.scheduler.clear()
        self.runner.store.release()
        if self.draft_model is not None:
            self.draft_model.release()
        return True

    def fail_all(self, error: InfrsError) -> list[Delta]:
        """End every running and waiting sequence with `error`."""
        return [sequence.finish(FinishReason.ERROR, error=error) for sequence in self.scheduler.clear()]

    def _copy(self, copy: Copy, results: StepResults) -> bool:
        """Copy a row and return whether that succeeded. A copy from a lost row fails too."""
        try:
            if copy.source in results.lost_rows:
                raise results.lost_rows[copy.source]
            self.runner.store.copy(copy.source, copy.target, copy.num_tokens, copy.snapshot)
        except Exception as error:
            results.lost_rows[copy.target] = error
            if copy.needed_by is not None:
                self._fail([copy.needed_by], error, results)
            return False
        return True

    def _decode(self, decode: Decode, results: StepResults) -> None:
        sequences = results.not_failed(decode.rows)
        if not sequences:
            return
        if decode.draft is not None:
            results.draft = sequences[0].complete(decode.draft, self._eos_ids)
            if results.draft.tokens:
                self._verify(sequences[0], decode, results.draft.tokens, results)
                return
        segments = [
            Segment(row, position, (sequence.tokens.output_ids[-1],), (0,))
            if sequence is not None and sequence not in results.failed
            else Segment(row, position, ())
            for row, (sequence, position) in enumerate(zip(decode.rows, decode.positions, strict=True), decode.first)
        ]
        try:
            logits = self.runner.run(segments)
        except Exception as error:  # ONNX Runtime's exceptions have no common type
            self._fail(sequences, error, results)
            return
        as_they_are = [not sequence.sampler.edits_scores for sequence in sequences]
        best = logits.argmax(axis=1).tolist() if any(as_they_are) else [None] * len(sequences)  # one call for all rows
        for sequence, row, token_id in zip(sequences, logits, best, strict=True):
            sequence.tokens.num_computed += 1
            self._sample(sequence, row, results, token_id)

    def _verify(self, sequence: Sequence, decode: Decode, draft: Tokens[int], results: StepResults) -> None:
        """Sample a token, and one more for each draft token that equals the sampled one."""
        tokens = sequence.tokens
        input_ids = (tokens.output_ids[-1], *draft)
        try:
            logits = self.runner.run([Segment(decode.first, decode.positions[0], input_ids, range(len(input_ids)))])
        except Exception as error:
            self._fail([sequence], error, results)
            return
        results.num_draft_tokens = len(draft)
        for row, expected in zip(logits, (*draft, None), strict=True):
            tokens.num_computed += 1
            self._sample(sequence, row, results)
            if sequence.finish_reason is not None or tokens.output_ids[-1] != expected:
                break
            results.num_accepted_tokens += 1

    def _prefill(self, prefill: Prefill, results: StepResults) -> None:
        sequence = prefill.sequence
        if prefill.prefix is not None and not self._copy(prefill.prefix, results):
            return
        try:
            sequence.tokens.begin(prefill.start)
            if prefill.start == prefill.end:  # all that a preempted sequence had computed is cached
                return
            input_ids = sequence.tokens[prefill.start : prefill.end]
            num_scored = len(input_ids) if sequence.scores_prompt else int(prefill.samples)
            scored = range(len(input_ids) - num_scored, len(input_ids))
            logits = self.runner.run([Segment(prefill.row, prefill.start, input_ids, scored)])
            sequence.tokens.num_computed = prefill.end
            if prefill.saved is not None:
                self.runner.store.save(prefill.row, prefill.saved)
            if sequence.scores_prompt:
                self._score_prompt(prefill, logits)
        except Exception as error:
            self._fail([sequence], error, results)
            return
        if not prefill.samples:
            return
        sampling = [sequence]
        for copy in prefill.siblings:
            if copy.needed_by is not None and self._copy(copy, results):
                copy.needed_by.tokens.begin(copy.num_tokens)
                sampling.append(copy.needed_by)
        for each in sampling:
            self._sample(each, logits[-1].copy(), results)

    def _score_prompt(self, prefill: Prefill, logits: Logits) -> None:
        """Add the log-probabilities of the prompt tokens behind those of a chunk; the last one has none behind it."""
        request = prefill.sequence.request
        following = request.prompt_ids[prefill.start + 1 : prefill.end + 1]
        prefill.sequence.output.prompt_logprobs += [
            token_logprob(row, token_id, request.num_logprobs or 0)
            for row, token_id in zip(logits, following, strict=False)
        ]

    def _sample(self, sequence: Sequence, row: Row, results: StepResults, best: int | None = None) -> None:
        """Sample a token from scores, float32 [vocab_size], and append it. `best`: their argmax, where it is known."""
        delta: Delta | None
        try:
            if sequence.request.max_tokens == 0:
                delta = sequence.finish(FinishReason.LENGTH)
            else:
                token_id = sequence.sample(row, self._eos_ids, best)
                delta = sequence.append(token_id, self._eos_ids, self.runner.capacity)
        except Exception as error:  # scores that are not finite, a grammar or a decoder that fails
            self._fail([sequence], error, results)
            return
        if sequence.finish_reason is not None:
            results.finished.append(sequence)
        if delta is not None:
            results.deltas.append(delta)

    def _fail(self, sequences: Iterable[Sequence], error: Exception, results: StepResults) -> None:
        """End sequences with an error."""
        failure = as_failure(error)
        for sequence in sequences:
            results.failed.add(sequence)
            results.deltas.append(sequence.finish(FinishReason.ERROR, error=failure))


def as_failure(error: Exception) -> InfrsError:
    """Return the error that ends a request after its step raised an exception."""
    if isinstance(error, InfrsError):
        return error
    if isinstance(error, MemoryError):
        return OutOfMemoryError("the server is short of memory; try again in a moment")
    reason = " ".join(str(error).split())[:200]
    return EngineError(f"the model could not be run ({type(error).__name__}: {reason}); try again")
