"""The scheduler: plans the next step, and changes state only when a step is committed."""

from __future__ import annotations

from infrs.engine.runners.runner import Runner
from infrs.engine.scheduling.placement import Placement
from infrs.engine.scheduling.plan import StepPlan, StepResults
from infrs.engine.scheduling.planner import Limits, Planner, SchedulingPolicy
from infrs.engine.scheduling.snapshots import save_points
from infrs.engine.scheduling.waiting import WaitingSequences
from infrs.engine.sequence import Sequence


class Scheduler:
    """Gives rows to waiting sequences and plans steps.

    A step computes at most `prefill_chunk` prompt tokens, which bounds the wait of the rows that decode. Unless the
    runner is `chunk_invariant`, prompts are cut at multiples of it under any load, so that their arithmetic does not
    depend on other requests, and no sequence is preempted.
    """

    def __init__(self, runner: Runner, prefill_chunk: int, policy: SchedulingPolicy) -> None:
        self.limits = Limits.of(runner, prefill_chunk, policy)
        self.placement = self._empty()

    @property
    def running(self) -> dict[Sequence, int]:
        """Return the rows of the running sequences, in the order in which they got them."""
        return self.placement.running

    @property
    def waiting(self) -> WaitingSequences:
        """Return the sequences without a row."""
        return self.placement.waiting

    @property
    def is_idle(self) -> bool:
        """Return whether nothing runs or waits."""
        return not self.running and not self.waiting

    def save_points(self, prompt_ids: tuple[int, ...], turn_ends: frozenset[int]) -> tuple[int, ...]:
        """Return after how many tokens of a prompt the states that cannot be truncated are saved; ascending."""
        limits = self.limits
        if not limits.num_snapshots:
            return ()
        return save_points(prompt_ids, turn_ends, limits.reuse_alignment, limits.prefill_chunk)

    def find(self, request_id: str) -> list[Sequence]:
        """Return the sequences of a request that run or wait."""
        return [sequence for sequence in (*self.running, *self.waiting) if sequence.request.request_id == request_id]

    def remove(self, sequence: Sequence) -> None:
        """Remove a sequence between two steps. Its row is free immediately and keeps what it caches."""
        if sequence in self.running:
            self._release(self.placement, sequence)
        else:
            self.waiting.remove(sequence)

    def clear(self) -> list[Sequence]:
        """Remove and return every sequence, and trust no cached token: a failed step may have overwritten any row."""
        sequences = [*self.running, *self.waiting]
        cleared = self._empty()
        cleared.clock, cleared.num_preemptions = self.placement.clock, self.placement.num_preemptions
        self.placement = cleared
        return sequences

    def plan(self) -> StepPlan | None:
        """Return a plan of the next step, or None if there is nothing to do. Changes nothing."""
        return Planner(self.limits, self.placement).plan()

    def commit(self, plan: StepPlan, results: StepResults) -> None:
        """Install the placement of a plan, as far as its work has succeeded.

        Sequences that failed lose their rows, which cache nothing. Sequences that finished leave theirs.
        """
        placement = plan.placement.copy()
        for row in results.lost_rows:
            placement.forget(row)
        for prefill in plan.prefills:
            if prefill.sequence not in results.failed:
                num_cached = prefill.end // self.limits.reuse_alignment * self.limits.reuse_alignment
                placement.cache(prefill.row, prefill.sequence, num_cached, prefill.snapshots)
                for copy in prefill.siblings:
                    if copy.target not in results.lost_rows:
                        placement.cache_copy(prefill.row, copy.target)
        for sequence in results.failed:
            placement.forget(placement.leave(sequence, caches_answer=False))
        for sequence in results.finished:
            self._release(placement, sequence)
        if plan.decode is not None and results.draft is not None:
            for sequence in results.not_failed(plan.decode.rows):
                sequence.drafter.record(results.draft, results.num_accepted_tokens)
        for sequence in plan.preempted:
            sequence.preempt()
        self.placement = placement

    def _release(self, placement: Placement, sequence: Sequence) -> None:
        """Take a sequence from its row, which caches its answer too where that can be reused."""
        placement.leave(sequence, caches_answer=self.limits.exact)

    def _empty(self) -> Placement:
        rows = (*self.limits.rows, *self.limits.spare_rows)
        return Placement.empty(rows, truncatable=self.limits.capabilities.truncatable)
