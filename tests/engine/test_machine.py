"""A state machine of scheduler and slots: requests are submitted, cancelled, preempted and fail in any order.

After each step no row has two owners, no sequence is lost or ends twice, and each row has what its slot caches. Every
answer equals, token by token, the one that the request gets alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import pytest
import synthetic
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from shadow import EOS, ShadowRunner, answer, computed
from snapshots import snapshot

from infrs.core import Delta, FinishReason, Request, SamplingParams
from infrs.engine.engine import Engine
from infrs.engine.invariants import violations
from infrs.engine.scheduling.plan import StepPlan

CAPACITY = 160
FAMILIES = [[1 + (step * i + i // 7) % 8 for i in range(110)] for step in (1, 3, 5)]  # prefixes of prompts
MANY = 3_000  # steps, more than all waiting requests need
FIELDS = st.fixed_dictionaries(
    {
        "max_tokens": st.integers(0, 40),
        "tenant": st.sampled_from("aab"),
        "num_choices": st.sampled_from([1, 1, 1, 3]),
        "prompt_logprobs": st.sampled_from([False, False, False, True]),
    }
)
WHOLE = {FinishReason.STOP, FinishReason.LENGTH}
QUICKLY = settings(phases=set(Phase) - {Phase.shrink, Phase.explain})  # shrinking a failure takes minutes
Answer = tuple[str, int]  # the id of a request and the index of an answer


class Machine(RuleBasedStateMachine):
    """Run an engine over a shadow runner, and record the tokens of every answer."""

    def __init__(self, *, chunk_invariant: bool, truncatable: bool) -> None:
        super().__init__()
        self.chunk_invariant = chunk_invariant
        self.truncatable = truncatable
        self.requests: dict[str, Request] = {}
        self.received: dict[Answer, list[int]] = defaultdict(list)
        self.ended: dict[Answer, FinishReason] = {}
        self.texts: list[tuple[int, ...]] = []  # prompts with their answers, which a next turn may continue

    @initialize(
        num_rows=st.integers(1, 4),
        num_spare_rows=st.integers(0, 2),
        min_rows=st.integers(1, 2),
        prefill_chunk=st.sampled_from([4, 16, 64]),
        num_snapshots=st.integers(0, 6),
    )
    def start(self, num_rows: int, num_spare_rows: int, min_rows: int, prefill_chunk: int, num_snapshots: int) -> None:
        fills = not self.chunk_invariant and self.truncatable
        self.runner = ShadowRunner(
            num_rows,
            num_spare_rows,
            CAPACITY,
            min_rows if fills else 1,
            self.chunk_invariant,
            None if self.truncatable else num_snapshots,
        )
        self.engine = Engine(self.runner, synthetic.Letters, frozenset({EOS}), prefill_chunk)
        self.scheduler = self.engine.scheduler
        self.runner.tenant_of = self.tenant_of
        self.plan, self.scheduler.plan = self.scheduler.plan, self.plan_twice  # type: ignore[method-assign]
        self.computed = lru_cache(64)(partial(computed, runner=self.runner, chunk=prefill_chunk))

    def plan_twice(self) -> StepPlan | None:
        """Plan, and check that planning again gives the same plan and that nothing has changed."""
        before = snapshot(self.engine)
        plan = self.plan()
        assert self.plan() == plan
        assert snapshot(self.engine) == before
        self.running = {} if plan is None else plan.placement.running
        return plan

    def tenant_of(self, row: int) -> str:
        """Return the tenant of a row in the running step."""
        [tenant] = [sequence.request.tenant for sequence, other in self.running.items() if other == row]
        return tenant

    @rule(family=st.sampled_from(FAMILIES), length=st.integers(1, 110), tail=st.integers(1, 8), fields=FIELDS)
    def submit(self, family: list[int], length: int, tail: int, fields: dict[str, Any]) -> None:
        self.ask((*family[:length], tail), fields)

    @precondition(lambda self: self.texts)
    @rule(which=st.integers(0, 99), tail=st.integers(1, 8), fields=FIELDS)
    def submit_next_turn(self, which: int, tail: int, fields: dict[str, Any]) -> None:
        self.ask((*self.texts[which % len(self.texts)][: CAPACITY - 20], tail), fields)

    def ask(self, prompt: tuple[int, ...], fields: dict[str, Any]) -> None:
        name = f"r{len(self.requests)}"
        self.requests[name] = Request(name, prompt, sampling=SamplingParams(temperature=0), **fields)
        self.engine.submit(self.requests[name])

    @rule(count=st.sampled_from([1, 1, 2, 5, 20]))
    def step(self, count: int) -> None:
        for _ in range(count):
            self.receive(self.engine.step())

    @precondition(lambda self: self.requests)
    @rule(which=st.integers(0, 99))
    def cancel(self, which: int) -> None:
        """Cancel a request. Answers that have ended already give no delta."""
        name = [*self.requests][-1 - which % len(self.requests)]
        left = {(request_id, index) for request_id, index in self.open if request_id == name}
        deltas = self.engine.cancel(name)
        assert {(delta.request_id, delta.index) for delta in deltas} == left
        self.receive(deltas)

    @precondition(lambda self: self.requests)
    @rule(which=st.integers(0, 99), paused=st.booleans())
    def pause(self, which: int, paused: bool) -> None:
        self.engine.set_paused([*self.requests][-1 - which % len(self.requests)], paused)

    @rule(calls=st.integers(0, 5))
    def fail_a_run(self, calls: int) -> None:
        self.runner.fails_in = calls

    @rule()
    def release_cache(self) -> None:
        """Give the memory of an idle engine back."""
        if self.scheduler.is_idle:
            self.engine.release_cache()

    @rule()
    def finish(self) -> None:
        for name in self.requests:
            self.engine.set_paused(name, False)
        for _ in range(MANY):
            if self.scheduler.is_idle:
                return
            self.step(1)
        raise AssertionError(f"still open after {MANY} steps: {self.open}")

    def receive(self, deltas: list[Delta]) -> None:
        for delta in deltas:
            key = delta.request_id, delta.index
            assert key not in self.ended, f"{key} has a delta after its end"
            self.received[key] += delta.token_ids
            if delta.finish_reason is not None:
                self.ended[key] = delta.finish_reason
                self.check(key)

    def check(self, key: Answer) -> None:
        request, tokens = self.requests[key[0]], self.received[key]
        alone = answer(request, self.runner, self.scheduler.limits.prefill_chunk)
        assert tokens == (alone if self.ended[key] in WHOLE else alone[: len(tokens)])
        self.texts.append((*request.prompt_ids, *tokens))  # an EOS ends a turn of the next prompt

    @property
    def open(self) -> set[Answer]:
        """Return the answers that have not ended."""
        asked = {(name, index) for name, request in self.requests.items() for index in range(request.num_choices)}
        return asked - self.ended.keys()

    @invariant()
    def no_sequence_is_lost(self) -> None:
        here = [*self.scheduler.running, *self.scheduler.waiting]
        assert len(here) == len(self.open)
        assert {(sequence.request.request_id, sequence.index) for sequence in here} == self.open

    @invariant()
    def no_row_has_two_owners(self) -> None:
        taken = list(self.scheduler.running.values())
        assert len(set(taken)) == len(taken)
        assert set(taken) <= set(range(self.runner.num_rows))

    @invariant()
    def invariants_hold(self) -> None:
        assert violations(self.engine) == []
        assert self.runner.broken == []

    @invariant()
    def a_row_has_what_its_slot_caches(self) -> None:
        for row, slot in self.scheduler.placement.slots.items():
            if slot.cached:
                cells = self.computed(slot.cached, slot.tenant)
                assert self.runner.cells[row][: len(slot.cached)] == cells, row
                for snapshot in slot.snapshots or ():
                    place = self.runner.spare_rows.stop + snapshot.number
                    assert self.runner.states[place] == cells[: snapshot.num_tokens], (row, snapshot)
                if slot.is_current and not self.truncatable:
                    assert self.runner.states[row] == cells, row

    def teardown(self) -> None:
        if self.requests:
            self.finish()


@pytest.mark.nightly("scheduler and slots")
@pytest.mark.parametrize("truncatable", [True, False], ids=["keys and values", "recurrent states"])
@pytest.mark.parametrize("chunk_invariant", [True, False], ids=["own kernels", "others"])
def test_any_order_of_events(
    full: bool, figure: Callable[[str], None], *, chunk_invariant: bool, truncatable: bool
) -> None:
    examples, steps = (10_000, 50) if full else (60, 40)
    machine = partial(Machine, chunk_invariant=chunk_invariant, truncatable=truncatable)
    run_state_machine_as_test(machine, settings=settings(QUICKLY, max_examples=examples, stateful_step_count=steps))
    figure(f"{examples:,} runs of {steps} events: nothing lost, every answer as if alone")
