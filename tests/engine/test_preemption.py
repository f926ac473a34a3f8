"""Preemption: which tenant loses a slot, when, and how often."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any

import pytest
import synthetic
from synthetic import KINDS, EngineFactory
from test_engine import random_request

from infrs.bundle.manifest import GraphKind
from infrs.core import Delta, FinishReason, Request, SamplingParams
from infrs.engine.engine import Engine
from infrs.engine.invariants import violations
from infrs.engine.runners.runner import Segment
from infrs.engine.runners.session import Logits
from infrs.engine.scheduling.fairness import MAX_PREEMPTIONS, by_need, choose_victim
from infrs.engine.scheduling.plan import StepPlan
from infrs.engine.sequence import Sequence
from infrs.errors import EngineError

GREEDY = SamplingParams(temperature=0)
HOT = SamplingParams(temperature=2.0, seed=9, presence_penalty=0.5, frequency_penalty=0.3, repetition_penalty=1.2)
PROMPT = tuple((5 * i) % 97 for i in range(21))
FILLER = (90, 91, 92)


def ask(
    name: str, tenant: str = "busy", max_tokens: int = 40, prompt: tuple[int, ...] = (1, 2), **fields: Any
) -> Request:
    defaults: dict[str, Any] = {"sampling": GREEDY, "ignore_eos": True, "tenant": tenant}
    return Request(name, prompt, max_tokens, **defaults | fields)


def steps(engine: Engine, count: int) -> list[Delta]:
    deltas: list[Delta] = []
    for _ in range(count):
        deltas += engine.step()
        assert violations(engine) == []
    return deltas


def finish(engine: Engine) -> list[Delta]:
    deltas: list[Delta] = []
    while not engine.scheduler.is_idle:
        deltas += steps(engine, 1)
    return deltas


def answers_of(deltas: list[Delta], name: str = "target") -> dict[int, list[Delta]]:
    """Return the deltas of a request, by answer.

    The first answer alone keeps its count of reused tokens. In the others it depends on which one computes the prompt.
    """
    answers: dict[int, list[Delta]] = defaultdict(list)
    for delta in deltas:
        if delta.request_id == name:
            usage = delta.usage if delta.index == 0 else replace(delta.usage, num_reused_tokens=0)
            answers[delta.index].append(replace(delta, usage=usage))
    return answers


def new_sequence(name: str, tenant: str) -> Sequence:
    return Sequence(ask(name, tenant), synthetic.Letters())


def test_victim_is_the_youngest_sequence_of_the_tenant_that_runs_most() -> None:
    """No sequence is preempted a fourth time, and none unless that makes the shares of tenants more equal."""

    def chosen(tenant: str, tenants: str, *lost: int) -> str | None:
        sequences = [new_sequence(f"{i}", other) for i, other in enumerate(tenants)]
        for index in lost:
            sequences[index].num_preemptions = MAX_PREEMPTIONS
        victim = choose_victim(sequences, new_sequence("new", tenant))
        return None if victim is None else victim.request.request_id

    assert chosen("c", "aaaa") == "3"
    assert chosen("c", "aaaabb") == "3"
    assert chosen("c", "abababa") == "6"
    assert chosen("c", "aaaabb", 2, 3) == "1"
    assert chosen("c", "aaaabb", 0, 1, 2, 3) == "5"
    assert chosen("c", "aabb", 2, 3) == "1"
    assert chosen("c", "aa", 0, 1) is None
    assert chosen("c", "ab") is None
    assert chosen("b", "aaab") == "2"
    assert chosen("b", "aab") is None
    assert chosen("a", "aaaa") is None


def test_victim_of_its_own_tenant_is_of_a_request_that_runs_more() -> None:
    """Each sequence is written as its tenant and its request."""

    def chosen(new: str, running: str) -> int | None:
        sequences = [new_sequence(each, each[0]) for each in running.split()]
        victim = choose_victim(sequences, new_sequence(new, new[0]))
        return None if victim is None else sequences.index(victim)

    assert chosen("a2", "a1 a1 a1 a1") == 3
    assert chosen("a2", "a1 a1 a2") is None
    assert chosen("a3", "a1 a1 a2") == 1
    assert chosen("a3", "a1 a2") is None
    assert chosen("a4", "a1 a1 a2 a2 a2 a3") == 4
    assert chosen("a2", "a1 a1 b1 b1 b1") == 1
    assert chosen("a2", "a1 a1 b1 b1 b1 b1") == 5
    assert chosen("b1", "a1 a1 a1 a2") == 2


def test_a_short_request_gets_its_first_token_in_the_next_step(
    new_engine: EngineFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short request next to 64 long ones, in any of their phases; their tenant's prompts continue."""
    # With patience, only the first request preempts.
    engine = new_engine(num_rows=8, capacity=200, prefill_chunk=8, chunk_invariant=True, patience=0)
    for number in range(64):
        engine.submit(ask(f"long{number}", max_tokens=100, prompt=tuple((number + i) % 97 for i in range(60))))
    computed: list[int] = []
    run_segments = engine.runner.run

    def counted(segments: list[Segment]) -> Logits:
        computed.extend(len(segment.input_ids) for segment in segments if len(segment.input_ids) > 1)
        return run_segments(segments)

    monkeypatch.setattr(engine.runner, "run", counted)
    shared = 0
    for number in range(12):
        steps(engine, 5)
        computed.clear()
        engine.submit(ask(f"short{number}", "calm", max_tokens=1, prompt=(number, 2, 3, 4)))
        [last] = [delta for delta in steps(engine, 1) if delta.request_id == f"short{number}"]
        assert list(last.token_ids) == synthetic.greedy([number, 2, 3, 4], 1)
        assert computed[0] == 4
        assert sum(computed[1:]) <= 4
        shared += sum(computed[1:]) == 4
    assert engine.scheduler.placement.num_preemptions == 12
    assert shared >= 4


def test_the_tenant_with_the_fewest_tokens_to_prefill_is_first() -> None:
    def queues(needs: str) -> list[list[int]]:
        """Return the lengths of prompts, given as `tenant + length`, in the queues of by_need."""
        asked = [ask(word, word[0], prompt=(1,) * int(word[1:])) for word in needs.split()]
        found = by_need(Sequence(request, synthetic.Letters()) for request in asked)
        return [[len(sequence.tokens.prompt_ids) for sequence in queue] for queue in found]

    assert queues("a9 a1 b3 c4 b2") == [[4], [3, 2], [9, 1]]
    assert queues("") == []


@pytest.mark.parametrize("kind", KINDS)
def test_no_sequence_is_preempted_unless_the_runner_is_chunk_invariant(
    new_engine: EngineFactory, kind: GraphKind
) -> None:
    engine = new_engine(num_rows=4, kind=kind)
    for number in range(8):
        engine.submit(ask(f"long{number}", max_tokens=20))
    steps(engine, 5)
    engine.submit(ask("short", "calm", max_tokens=1))
    finish(engine)
    assert engine.scheduler.placement.num_preemptions == 0


def test_no_sequence_is_preempted_without_keys(new_engine: EngineFactory) -> None:
    engine = new_engine(num_rows=2, chunk_invariant=True)
    for number in range(8):
        engine.submit(ask(f"r{number}", tenant=""))
        steps(engine, 3)
    finish(engine)
    assert engine.scheduler.placement.num_preemptions == 0


def test_a_request_with_many_answers_leaves_room_for_others_of_its_tenant(new_engine: EngineFactory) -> None:
    """Also on a server without keys, where all are one tenant. Series of short requests cost one preemption."""
    engine = new_engine(num_rows=4, capacity=400, chunk_invariant=True)
    engine.submit(ask("target", tenant="", num_choices=6, max_tokens=100, prompt=PROMPT))
    expected = answers_of(finish(engine))
    engine.scheduler.clear()
    engine.submit(ask("target", tenant="", num_choices=6, max_tokens=100, prompt=PROMPT))
    deltas = steps(engine, 10)
    for number in range(8):
        engine.submit(ask(f"short{number}", tenant="", max_tokens=3))
        deltas += steps(engine, 1)
        assert [s.request.request_id for s in engine.scheduler.running] == ["target"] * 3 + [f"short{number}"]
        deltas += steps(engine, 2 + number)
    assert engine.scheduler.placement.num_preemptions == 1
    deltas += steps(engine, 20)
    assert [s.request.request_id for s in engine.scheduler.running] == ["target"] * 4
    assert answers_of(deltas + finish(engine)) == expected


@pytest.mark.parametrize("exact", [False, True])
def test_answers_of_a_request_wait_behind_other_requests_of_its_tenant(new_engine: EngineFactory, exact: bool) -> None:
    engine = new_engine(num_rows=3, chunk_invariant=exact)
    engine.submit(ask("many", num_choices=8))
    for name in "ab":
        engine.submit(ask(name))
    steps(engine, 1)
    assert sorted(s.request.request_id for s in engine.scheduler.running) == ["a", "b", "many"]


def test_a_tenant_with_successive_requests_preempts_once(new_engine: EngineFactory) -> None:
    """The preempted sequence leaves the slot free for a while only. It resumes immediately in one of its own tenant."""
    engine = new_engine(num_rows=3, capacity=400, chunk_invariant=True)
    for number in range(8):
        engine.submit(ask(f"long{number}", max_tokens=200 if number < 3 else 1))
    steps(engine, 5)
    for number in range(20):
        engine.submit(ask(f"short{number}", "calm", max_tokens=3))
        steps(engine, 3)
        assert len(engine.scheduler.running) == 2
        steps(engine, number % 10)
    assert engine.scheduler.placement.num_preemptions == 1
    steps(engine, 20)
    assert [s.request.request_id for s in engine.scheduler.running] == ["long0", "long1", "long2"]
    engine.submit(ask("short", "calm", max_tokens=3))
    steps(engine, 1)
    engine.cancel("long0")
    steps(engine, 1)
    assert [s.request.request_id for s in engine.scheduler.running] == ["long1", "short", "long2"]
    engine.cancel("long1")
    engine.cancel("short")
    engine.cancel("long2")
    assert {delta.request_id for delta in steps(engine, 1)} == {"long3", "long4", "long5"}  # never preempted


def test_a_slot_freed_between_running_rows_stays_reserved(new_engine: EngineFactory) -> None:
    """The last row moves into the freed slot, and its own slot stays empty then."""
    engine = new_engine(num_rows=3, capacity=400, chunk_invariant=True)
    for number in range(4):
        engine.submit(ask(f"long{number}", max_tokens=200))
    steps(engine, 3)
    engine.cancel("long1")
    steps(engine, 3)
    engine.submit(ask("short", "calm", max_tokens=3))
    steps(engine, 1)
    rows = {sequence.request.request_id: row for sequence, row in engine.scheduler.running.items()}
    assert rows == {"long0": 0, "long2": 2, "short": 1}
    steps(engine, 10)
    rows = {sequence.request.request_id: row for sequence, row in engine.scheduler.running.items()}
    assert rows == {"long0": 0, "long2": 1}
    steps(engine, 20)
    assert [s.request.request_id for s in engine.scheduler.running] == ["long0", "long2", "long3"]


def test_a_preempted_sequence_resumes_immediately_when_no_other_runs(new_engine: EngineFactory) -> None:
    engine = new_engine(num_rows=2, chunk_invariant=True)
    engine.submit(ask("older"))
    engine.submit(ask("target"))
    steps(engine, 4)
    for tenant in ("b", "c"):
        engine.submit(ask(f"short-{tenant}", tenant, max_tokens=3))
    steps(engine, 1)
    engine.cancel("older")  # the third tenant gets its slot, so that its own tenant leaves none free
    steps(engine, 1)
    assert [s.request.request_id for s in engine.scheduler.running] == ["short-b", "short-c"]
    steps(engine, 2)
    assert [s.request.request_id for s in engine.scheduler.running] == []
    steps(engine, 1)
    assert [s.request.request_id for s in engine.scheduler.running] == ["target"]


def watch(engine: Engine) -> None:
    """Check after each plan that each preemption was necessary, and that no other one is."""
    plan = engine.scheduler.plan

    def checked() -> StepPlan | None:
        before = list(engine.scheduler.running)
        planned = plan()
        if planned is None:
            return None
        running, waiting = planned.placement.running, planned.placement.waiting
        lost = [sequence for sequence in before if sequence not in running]
        assert set(lost) == {sequence for sequence in waiting if sequence in before} == set(planned.preempted)
        shares = Counter(sequence.request.tenant for sequence in running)
        parts = Counter(sequence.request.request_id for sequence in running)
        for victim in lost:
            tenant = victim.request.tenant
            assert max(shares.values()) <= shares[tenant] + 1 or shares[tenant] == max(shares.values())
            younger = before[before.index(victim) + 1 :]
            assert all(
                s in lost or s.num_preemptions == MAX_PREEMPTIONS for s in younger if s.request == victim.request
            )
        if waiting and len(running) == engine.runner.num_rows:
            left = [s for s in running if s.num_preemptions + (s in lost) < MAX_PREEMPTIONS]
            first = waiting.next(running).request
            assert all(shares[s.request.tenant] < shares[first.tenant] + 2 for s in left)
            own = {s.request.request_id for s in left if s.request.tenant == first.tenant}
            assert all(parts[each] < parts[first.request_id] + 2 for each in own)
        return planned

    engine.scheduler.plan = checked  # type: ignore[method-assign]


@pytest.mark.parametrize("seed", range(60))
def test_answers_under_preemption_equal_those_alone_and_shares_are_fair(new_engine: EngineFactory, seed: int) -> None:
    """Requests join, leave and are preempted at random, each answer up to three times. No answer changes."""
    rng = random.Random(seed)
    policy = {"min_kept": 4, "patience": rng.choice([0, 3, 16])}
    requests = [
        replace(
            random_request(rng, index),
            tenant=rng.choice("aaaaabbc"),
            num_choices=rng.choice([1, 1, 1, 3]),
            num_logprobs=rng.choice([None, 2]),
            prompt_logprobs=rng.random() < 0.2,
        )
        for index in range(rng.randint(10, 30))
    ]
    alone = {}
    single = new_engine(num_rows=3, chunk_invariant=True)
    for request in requests:
        single.submit(request)
        alone[request.request_id] = plain(finish(single), request.request_id)
        single.scheduler.clear()
    engine = new_engine(
        num_rows=rng.randint(2, 6), num_spare_rows=rng.choice([0, 1, 3]), chunk_invariant=True, **policy
    )
    watch(engine)
    deltas: list[Delta] = []
    to_come, cancelled = list(requests), set()
    while to_come or not engine.scheduler.is_idle:
        while to_come and rng.random() < 0.3:
            engine.submit(to_come.pop())
        if rng.random() < 0.03:
            left = rng.choice(requests).request_id
            if ended := engine.cancel(left):
                deltas += ended
                cancelled.add(left)
        deltas += steps(engine, 1)
    for request in requests:
        name = request.request_id
        if name in cancelled:
            ended = [delta for delta in deltas if delta.request_id == name and delta.finish_reason]
            assert sorted(delta.index for delta in ended) == list(range(request.num_choices))
        else:
            assert plain(deltas, name) == alone[name]


def plain(deltas: list[Delta], name: str) -> dict[int, list[Delta]]:
    """Return the deltas of a request without counts of reused tokens, which depend on the requests before."""
    return {
        index: [replace(delta, usage=replace(delta.usage, num_reused_tokens=0)) for delta in answer]
        for index, answer in answers_of(deltas, name).items()
    }


def test_a_preempted_sequence_can_be_cancelled_or_fail(new_engine: EngineFactory) -> None:
    engine = new_engine(num_rows=2, chunk_invariant=True)

    def preempt_target() -> None:
        engine.submit(ask("older"))
        engine.submit(ask("target"))
        steps(engine, 4)
        engine.submit(ask("short", "calm"))
        steps(engine, 1)
        assert [s.request.request_id for s in engine.scheduler.waiting] == ["target"]

    preempt_target()
    [delta] = engine.cancel("target")
    assert (delta.finish_reason, delta.usage.num_output_tokens) == (FinishReason.CANCELLED, 4)
    assert "target" not in {delta.request_id for delta in finish(engine)}
    preempt_target()
    ended = engine.fail_all(EngineError("broken"))
    assert sorted(delta.request_id for delta in ended) == ["older", "short", "target"]
    assert engine.scheduler.is_idle
