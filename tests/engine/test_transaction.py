"""A step as a transaction: planning changes nothing, and a copy or run that fails ends the sequences that need it.

The scenario has everything that a step can plan: preemption, copies to spare rows, prefixes from other rows, siblings,
compaction, draft tokens and prompts in chunks. Each call of the runner fails once.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import pytest
import synthetic
from shadow import EOS, ShadowRunner, answer
from snapshots import snapshot
from test_failing_steps import raise_at

from infrs.core import Delta, FinishReason, Request, SamplingParams
from infrs.engine.engine import Engine
from infrs.engine.invariants import violations
from infrs.engine.scheduling.plan import Copy, StepPlan, StepResults

CHUNK, CAPACITY = 16, 160
SHARED = tuple(1 + i % 8 for i in range(70))
GREEDY = SamplingParams(temperature=0)
REQUESTS = {  # by the step before which each is submitted
    0: [
        Request("first", (*SHARED, 1), 20, GREEDY, tenant="a"),
        Request("several", SHARED[5:40], 12, GREEDY, num_choices=2),
    ],
    3: [Request("prefix", (*SHARED, 2), 9, GREEDY, tenant="a")],
    9: [
        Request("calm", (3, 3, 3), 4, GREEDY, tenant="b"),
        Request("scores", SHARED[:20], 5, GREEDY, prompt_logprobs=True),
    ],
    14: [Request("again", (*SHARED, 3), 12, GREEDY, tenant="a"), Request("calm too", (4, 5), 6, GREEDY, tenant="b")],
    24: [Request("late", (*SHARED, 4), 8, GREEDY, tenant="a")],
}


def requests() -> list[Request]:
    return [request for group in REQUESTS.values() for request in group]


@dataclass
class Scenario:
    """An engine over a shadow runner, and what its steps did. The call number `failing` of the runner fails."""

    exact: bool
    failing: int | None = None
    answers: dict[tuple[str, int], list[Delta]] = field(default_factory=lambda: defaultdict(list))
    planned: set[str] = field(default_factory=set)
    failures: list[tuple[set[str], set[str]]] = field(
        default_factory=list
    )  # (requests that need it, those that failed)

    def __post_init__(self) -> None:
        self.runner = ShadowRunner(3, 1, CAPACITY, 1, self.exact, tenant_of=self.tenant_of, fails_in=self.failing)
        self.engine = Engine(self.runner, synthetic.Letters, frozenset({EOS}), CHUNK)
        scheduler = self.engine.scheduler
        self._plan, self._commit = scheduler.plan, scheduler.commit
        scheduler.plan, scheduler.commit = self.plan, self.commit  # type: ignore[method-assign]
        self.num_calls, may_fail = 0, self.runner.may_fail

        def counted(writes: Any) -> None:
            self.num_calls += 1
            may_fail(writes)

        self.runner.may_fail = counted  # type: ignore[method-assign]

    def tenant_of(self, row: int) -> str:
        [tenant] = [sequence.request.tenant for sequence, other in self.running.items() if other == row]
        return tenant

    def plan(self) -> StepPlan | None:
        """Plan twice, and check that the plans are equal and that nothing has changed."""
        before = snapshot(self.engine)
        plan = self._plan()
        assert self._plan() == plan
        assert snapshot(self.engine) == before
        if plan is not None:
            self.running = plan.placement.running
            self.planned |= set(parts(plan))
        return plan

    def commit(self, plan: StepPlan, results: StepResults) -> None:
        self._commit(plan, results)
        failed = {sequence.request.request_id for sequence in results.failed}
        if failed or results.lost_rows:
            self.failures.append((needed(plan, results.lost_rows), failed))

    def run(self) -> Scenario:
        for step in range(200):
            for request in REQUESTS.get(step, []):
                self.engine.submit(request)
            for delta in self.engine.step():
                self.answers[delta.request_id, delta.index].append(delta)
            assert violations(self.engine) == []
            if step > max(REQUESTS) and self.engine.scheduler.is_idle:
                return self
        raise AssertionError("the scenario does not end")


def parts(plan: StepPlan) -> list[str]:
    """Return the names of the parts that a plan has."""
    draft = plan.decode is not None and plan.decode.draft is not None and plan.decode.draft.tokens
    found = {
        "keep": any(copy.needed_by is None for copy in plan.copies),
        "compact": any(copy.needed_by is not None for copy in plan.copies),
        "preempt": plan.preempted,
        "draft": draft,
        "prefix": any(prefill.prefix for prefill in plan.prefills),
        "siblings": any(prefill.siblings for prefill in plan.prefills),
    }
    return [name for name, has in found.items() if has]


def needed(plan: StepPlan, lost: dict[int, Exception]) -> set[str]:
    """Return the requests that need a row of a failed copy, or all that run if no copy failed."""
    prefixes = [prefill.prefix for prefill in plan.prefills if prefill.prefix is not None]
    siblings = [copy for prefill in plan.prefills for copy in prefill.siblings]
    copies: list[Copy] = [*plan.copies, *prefixes, *siblings]
    if lost:
        sequences = [copy.needed_by for copy in copies if copy.target in lost or copy.source in lost]
    else:
        decoding = plan.decode.rows if plan.decode is not None else ()
        sequences = [*decoding, *(prefill.sequence for prefill in plan.prefills)]
    return {sequence.request.request_id for sequence in sequences if sequence is not None}


def tokens_of(deltas: list[Delta]) -> list[int]:
    return [token_id for delta in deltas for token_id in delta.token_ids]


@pytest.mark.parametrize("exact", [True, False])
def test_a_failing_call_ends_the_sequences_that_need_it_and_no_others(*, exact: bool) -> None:
    whole = Scenario(exact).run()
    expected_parts = {"siblings", "prefix", "compact"} | ({"keep", "preempt", "draft"} if exact else set())
    assert whole.planned >= expected_parts
    for failing in range(whole.num_calls):
        scenario = Scenario(exact, failing).run()
        [(may_fail, failed)] = scenario.failures
        assert failed <= may_fail, failing
        assert scenario.runner.broken == []
        for request in requests():
            alone = answer(request, scenario.runner, CHUNK)
            for index in range(request.num_choices):
                deltas = scenario.answers[request.request_id, index]
                tokens, last = tokens_of(deltas), deltas[-1]
                is_failed = last.finish_reason is FinishReason.ERROR
                assert tokens == (alone[: len(tokens)] if is_failed else alone), (failing, request.request_id)
                assert not is_failed or request.request_id in failed, failing


@pytest.mark.parametrize("num_steps", [0, 3, 9, 14])
def test_a_step_that_raises_leaves_the_placement_as_it_was(num_steps: int) -> None:
    """Raise at every eleventh call of a step. It ends sequences, or the step raises and commits nothing."""
    number = calls = num_raised = 0
    while number <= calls:
        engine = Scenario(exact=True).engine
        for step in range(num_steps + 1):
            for request in REQUESTS.get(step, []):
                engine.submit(request)
            if step < num_steps:
                engine.step()
        before = snapshot(engine)[:5]
        counted = raise_at(engine, number, RuntimeError("a call that fails"))
        try:
            engine.step()
        except RuntimeError:
            num_raised += 1
            assert snapshot(engine)[:5] == before, number
        else:
            assert violations(engine) == [], number
        calls = counted[0] if number == 0 else calls  # the first pass counts the calls
        number += 1 if number == 0 else 11
    assert num_raised > 0
