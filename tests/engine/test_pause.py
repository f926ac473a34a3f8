"""A paused request takes no part in steps, keeps its answer, and holds up no other."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator

import pytest
import synthetic
from synthetic import EngineFactory
from test_preemption import PROMPT, answers_of, ask, finish, steps
from test_resumption import TARGETS

from infrs.core import Delta, FinishReason
from infrs.engine.invariants import violations
from infrs.engine.runners.runner import Segment
from infrs.engine.service import EngineService


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("kind", TARGETS)
def test_a_request_paused_after_any_step_gives_the_same_deltas(
    new_engine: EngineFactory, kind: str, exact: bool
) -> None:
    num_choices = TARGETS[kind].num_choices
    engine = new_engine(num_rows=num_choices + 1, chunk_invariant=exact)

    def begin() -> None:
        engine.scheduler.clear()
        engine.submit(TARGETS[kind])
        engine.submit(ask("other", max_tokens=50, prompt=(7, 8, 9)))

    begin()
    expected = finish(engine)
    for step in range(0, 33, 2):
        begin()
        deltas = steps(engine, step)
        engine.set_paused("target", True)
        during = steps(engine, 5)
        assert not answers_of(during)
        engine.set_paused("target", False)
        deltas += during + finish(engine)
        for name in ("target", "other"):
            assert answers_of(deltas, name) == answers_of(expected, name), step


def test_a_paused_row_takes_no_part_in_steps(new_engine: EngineFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where it lies between rows that decode."""
    engine = new_engine(num_rows=3)
    for name in "abc":
        engine.submit(ask(name, prompt=(7, 8, 9)))
    steps(engine, 4)
    [middle] = engine.scheduler.find("b")
    before = list(middle.tokens.output_ids)
    engine.set_paused("b", True)
    ran: list[list[Segment]] = []
    run = engine.runner.run
    monkeypatch.setattr(engine.runner, "run", lambda segments: ran.append(list(segments)) or run(segments))
    steps(engine, 10)
    row = engine.scheduler.running[middle]
    assert middle.tokens.output_ids == before
    assert not any(segment.row == row and len(segment.input_ids) for segments in ran for segment in segments)
    assert len(ran) == 10


@pytest.mark.parametrize("exact", [False, True])
def test_nothing_is_planned_while_all_requests_are_paused(new_engine: EngineFactory, exact: bool) -> None:
    engine = new_engine(num_rows=2, chunk_invariant=exact)
    for name in "abcd":  # two of them wait for a row
        engine.submit(ask(name))
    steps(engine, 3)
    for name in "abcd":
        engine.set_paused(name, True)
    assert engine.scheduler.plan() is None
    assert engine.step() == []
    assert [engine.scheduler.find(name)[0].num_preemptions for name in "ab"] == [0, 0]


def test_a_waiting_request_that_is_paused_keeps_its_place(new_engine: EngineFactory) -> None:
    engine = new_engine(num_rows=1)
    for name in "abc":
        engine.submit(ask(name, max_tokens=3))
    engine.set_paused("b", True)
    order = [delta.request_id for delta in steps(engine, 20) if delta.finish_reason]
    assert order == ["a", "c"]
    engine.submit(ask("d", max_tokens=3))
    engine.set_paused("b", False)
    order = [delta.request_id for delta in steps(engine, 20) if delta.finish_reason]
    assert order == ["b", "d"]


@pytest.mark.parametrize("tenant", ["busy", "calm"])
def test_a_paused_request_gives_its_row_to_one_that_waits(new_engine: EngineFactory, tenant: str) -> None:
    """Where answers do not depend on chunking; also among the requests of one key."""
    engine = new_engine(num_rows=1, chunk_invariant=True)
    engine.submit(ask("target", prompt=PROMPT))
    expected = answers_of(finish(engine))
    engine.scheduler.clear()
    engine.submit(ask("target", prompt=PROMPT))
    deltas = steps(engine, 12)
    engine.set_paused("target", True)
    engine.submit(ask("other", tenant, max_tokens=3))
    deltas += steps(engine, 3 + 1)
    assert answers_of(deltas, "other")[0][-1].finish_reason is FinishReason.LENGTH
    engine.set_paused("target", False)
    assert answers_of(deltas + finish(engine)) == expected


def test_requests_wait_for_the_row_of_a_paused_one_where_none_is_preempted(new_engine: EngineFactory) -> None:
    engine = new_engine(num_rows=1)
    engine.submit(ask("target"))
    steps(engine, 3)
    engine.set_paused("target", True)
    engine.submit(ask("other", max_tokens=3))
    assert engine.scheduler.plan() is None
    engine.cancel("target")
    assert [delta.request_id for delta in finish(engine) if delta.finish_reason] == ["other"]


@pytest.mark.parametrize("seed", range(20))
def test_random_pauses_lose_no_request_and_change_no_answer(new_engine: EngineFactory, seed: int) -> None:
    rng = random.Random(seed)
    engine = new_engine(num_rows=3, chunk_invariant=bool(seed % 2))
    asked = [
        ask(f"r{i}", rng.choice("abc"), rng.randrange(1, 20), tuple(range(2, 3 + rng.randrange(12)))) for i in range(12)
    ]
    expected = {}
    for request in asked:
        engine.submit(request)
        expected[request.request_id] = "".join(delta.text for delta in finish(engine))
        engine.scheduler.clear()
    deltas: list[Delta] = []
    for request in asked:
        engine.submit(request)
        for _ in range(rng.randrange(4)):
            engine.set_paused(rng.choice(asked).request_id, rng.random() < 0.6)
            deltas += engine.step()
            assert violations(engine) == []
    for _ in range(100):
        engine.set_paused(rng.choice(asked).request_id, rng.random() < 0.5)
        deltas += steps(engine, 1)
    for request in asked:
        engine.set_paused(request.request_id, False)
    deltas += finish(engine)
    texts = {name: "".join(each.text for each in deltas if each.request_id == name) for name in expected}
    assert texts == expected
    ended = [delta.request_id for delta in deltas if delta.finish_reason is FinishReason.LENGTH]
    assert sorted(ended) == sorted(expected)


@pytest.fixture
def service(new_engine: EngineFactory) -> Iterator[EngineService]:
    running = EngineService(new_engine(num_rows=2), max_queue=2, cache_idle_timeout=0.05, heartbeat=0.02)
    running.start()
    yield running
    running.stop(5)


def test_a_service_with_only_paused_requests_rests_and_shows_progress(service: EngineService) -> None:
    """It makes no steps, keeps its cached tokens, and the watchdog takes it for alive."""
    ended = threading.Event()
    deltas: list[Delta] = []

    def sink(delta: Delta) -> None:
        deltas.append(delta)
        if len(deltas) == 1:
            service.set_paused("a", True)
        if delta.finish_reason:
            ended.set()

    service.submit(ask("a", max_tokens=30), sink)
    deadline = time.monotonic() + 10
    before = None
    while before is None or service.snapshot().num_steps != before.num_steps:
        before = service.snapshot()
        time.sleep(0.3)
        assert time.monotonic() < deadline
    assert service.snapshot().last_progress > before.last_progress
    assert before.num_running == 1
    assert not ended.is_set()
    service.set_paused("a", False)
    service.set_paused("unknown", True)
    assert ended.wait(10)
    assert deltas[-1].usage.num_output_tokens == 30
    text = "".join(delta.text for delta in deltas)
    assert text == synthetic.letters(synthetic.greedy([1, 2], 30))
