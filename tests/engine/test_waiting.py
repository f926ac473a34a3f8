"""Which request gets the next slot; a request with a slot always has memory for it."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest
import synthetic
from synthetic import EngineFactory

from infrs.core import FinishReason, Request, SamplingParams
from infrs.engine.engine import Engine
from infrs.engine.invariants import violations
from infrs.engine.scheduling.waiting import WaitingSequences
from infrs.engine.sequence import Sequence

GREEDY = SamplingParams(temperature=0)


def ask(name: str, tenant: str = "", max_tokens: int = 4, prompt: tuple[int, ...] = (1, 2)) -> Request:
    return Request(name, prompt, max_tokens, GREEDY, ignore_eos=True, tenant=tenant)


def begun(engine: Engine) -> list[str]:
    """Step until the engine is idle. Return the requests in the order in which they get a slot."""
    order: list[str] = []
    while not engine.scheduler.is_idle:
        engine.step()
        assert violations(engine) == []
        order += [s.request.request_id for s in engine.scheduler.running if s.request.request_id not in order]
    return order


def test_requests_without_keys_are_served_in_order(new_engine: EngineFactory) -> None:
    engine = new_engine(num_rows=2)
    names = [f"r{number}" for number in range(20)]
    for name in names:
        engine.submit(ask(name))
    assert begun(engine) == names


def test_a_tenant_without_running_requests_gets_the_next_slot(new_engine: EngineFactory) -> None:
    """A key submits 64 long requests, then another key a short one. It gets the next slot that becomes free."""
    engine = new_engine(num_rows=8)
    for number in range(64):
        engine.submit(ask(f"long{number}", "busy", max_tokens=20 + number % 8))
    for _ in range(12):
        engine.step()
    engine.submit(ask("short", "calm"))
    assert begun(engine)[8] == "short"


def test_tenants_take_turns(new_engine: EngineFactory) -> None:
    engine = new_engine(num_rows=1)
    for tenant in "abc":
        for number in range(3):
            engine.submit(ask(f"{tenant}{number}", tenant))
    assert begun(engine) == ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2", "c2"]


def test_slots_are_shared_evenly(new_engine: EngineFactory) -> None:
    engine = new_engine(num_rows=6)
    for tenant, count in (("a", 30), ("b", 10), ("c", 10)):
        for number in range(count):
            engine.submit(ask(f"{tenant}{number}", tenant, max_tokens=10))
    for _ in range(3):
        engine.step()
    assert sorted(s.request.tenant for s in engine.scheduler.running) == [*"aabbcc"]


def test_tenants_with_frequent_requests_starve_no_other(new_engine: EngineFactory) -> None:
    """One tenant has 5 requests. The others send the next one as soon as the last is answered."""
    engine = new_engine(num_rows=2)
    for number in range(5):
        engine.submit(ask(f"patient{number}", "patient"))
    left, sent = {f"patient{number}" for number in range(5)}, 0
    for _ in range(5 * 5 * 6):  # five turns of five tenants, at most six steps each
        waiting = {s.request.tenant for s in (*engine.scheduler.waiting, *engine.scheduler.running)}
        for tenant in {f"busy{i}" for i in range(4)} - waiting:
            engine.submit(ask(f"{tenant}-{sent}", tenant, max_tokens=1 + sent % 5))
            sent += 1
        left -= {delta.request_id for delta in engine.step() if delta.finish_reason}
        if not left:
            break
    assert not left


@pytest.mark.parametrize("seed", range(30))
def test_next_is_the_oldest_sequence_of_the_tenant_that_runs_least(seed: int) -> None:
    rng, waiting = random.Random(seed), WaitingSequences()
    expected: dict[str, list[Sequence]] = defaultdict(list)
    running: list[Sequence] = []
    for number in range(200):
        match rng.choice(["append", "append", "take", "remove", "end"]):
            case "append":
                tenant = rng.choice("abcde")
                sequence = Sequence(ask(f"r{number}", tenant), synthetic.Letters())
                waiting.append(sequence)
                expected[tenant].append(sequence)
            case "take" if waiting:
                counts = {t: sum(s.request.tenant == t for s in running) for t, q in expected.items() if q}
                taken = waiting.next(running)
                waiting.take(taken)
                assert taken is expected[taken.request.tenant].pop(0)
                assert counts[taken.request.tenant] == min(counts.values())
                running.append(taken)
            case "remove" if waiting:
                victim = rng.choice(list(waiting))
                waiting.remove(victim)
                expected[victim.request.tenant].remove(victim)
            case "end" if running:
                running.pop(rng.randrange(len(running)))
        assert {*waiting} == {s for queue in expected.values() for s in queue}
        assert bool(waiting) == any(expected.values())


def test_a_running_sequence_has_memory_to_the_end_of_its_context(new_engine: EngineFactory) -> None:
    """No sequence is preempted for lack of memory: the keys and values of every slot always fit.

    A slot is a row as long as the context, allocated at start (`Slab`). `infrs.engine.build` opens no more rows than
    the budget for keys and values allows. So only another tenant preempts a sequence (test_preemption.py).

    This test fills every row to its last token, while as many requests wait. Each step gives a token to every decoding
    sequence. All sequences end, and no running sequence returns to the queue.
    """
    rows, capacity, chunk = 4, 32, 8
    engine = new_engine(num_rows=rows, capacity=capacity, prefill_chunk=chunk)
    prompts = {f"r{number}": tuple((number + i) % 97 for i in range(9 + number)) for number in range(2 * rows)}
    for name, prompt in prompts.items():
        engine.submit(ask(name, max_tokens=1000, prompt=prompt))
    answers: dict[str, list[int]] = defaultdict(list)
    reasons: dict[str, FinishReason] = {}
    begun: set[str] = set()
    while not engine.scheduler.is_idle:
        before = {s.request.request_id: s.tokens.num_computed for s in engine.scheduler.running}
        decoding = {s.request.request_id for s in engine.scheduler.running if not s.tokens.is_prefilling}
        deltas = engine.step()
        assert violations(engine) == []
        assert {delta.request_id for delta in deltas} >= decoding
        for delta in deltas:
            answers[delta.request_id] += delta.token_ids
            if delta.finish_reason:
                reasons[delta.request_id] = delta.finish_reason
        for sequence in engine.scheduler.running:
            assert sequence.tokens.num_computed >= before.get(sequence.request.request_id, 0)
        begun |= {s.request.request_id for s in engine.scheduler.running}
        assert not begun & {s.request.request_id for s in engine.scheduler.waiting}
    assert reasons == dict.fromkeys(prompts, FinishReason.LENGTH)
    for name, prompt in prompts.items():
        assert len(prompt) + len(answers[name]) == capacity  # the row was full
        assert answers[name] == synthetic.greedy(list(prompt), capacity - len(prompt))
