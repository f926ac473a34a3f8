"""The engine's thread: its bounded queue, cancellation, failures and shutdown."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import synthetic
from synthetic import EngineFactory

from infrs.bundle.manifest import GraphKind
from infrs.core import Delta, FinishReason, Request, SamplingParams
from infrs.engine.engine import Engine
from infrs.engine.service import EngineService
from infrs.errors import DrainingError, EngineError, QueueFullError

WAIT = 10.0


class Inbox:
    """A sink that keeps deltas and waits for the last."""

    def __init__(self) -> None:
        self.queue: queue.Queue[Delta] = queue.Queue()

    def all(self) -> list[Delta]:
        deltas = [self.queue.get(timeout=WAIT)]
        while deltas[-1].finish_reason is None:
            deltas.append(self.queue.get(timeout=WAIT))
        return deltas


def ask(name: str, max_tokens: int = 5, tenant: str = "") -> Request:
    return Request(name, (4, 5), max_tokens, SamplingParams(temperature=0), ignore_eos=True, tenant=tenant)


def blocked(engine: Engine, after: int = 0) -> tuple[threading.Event, threading.Event]:
    """Block every run after the first few. `entered` is set when a run blocks, `go` lets all of them continue."""
    entered, go = threading.Event(), threading.Event()
    run, passed = engine.runner.run, iter(range(after))

    def wait(*args: object) -> object:
        if next(passed, None) is None:
            entered.set()
            assert go.wait(WAIT)
        return run(*args)  # type: ignore[arg-type]

    engine.runner.run = wait  # type: ignore[assignment,method-assign]
    return entered, go


@pytest.fixture
def engine(new_engine: EngineFactory) -> Engine:
    return new_engine(num_rows=1)


@pytest.fixture
def service(engine: Engine) -> Iterator[EngineService]:
    service = EngineService(engine, max_queue=2)
    service.start()
    yield service
    service.stop(WAIT)


def test_deltas_reach_the_sink_in_order(service: EngineService) -> None:
    inbox = Inbox()
    service.submit(ask("a"), inbox.queue.put)
    deltas = inbox.all()
    assert [token_id for delta in deltas for token_id in delta.token_ids] == synthetic.greedy([4, 5], 5)
    assert service.alive


def test_the_queue_is_bounded_and_empties(service: EngineService, engine: Engine) -> None:
    entered, go = blocked(engine, after=1)
    inboxes = [Inbox() for _ in range(3)]
    for index, inbox in enumerate(inboxes):
        service.submit(ask(f"r{index}"), inbox.queue.put)
    assert entered.wait(WAIT)
    with pytest.raises(QueueFullError, match="2 requests are waiting"):
        service.submit(ask("more"), Inbox().queue.put)
    stats = service.snapshot()
    assert (stats.num_running, stats.num_waiting) == (1, 2)
    go.set()
    assert {inbox.all()[-1].finish_reason for inbox in inboxes} == {FinishReason.LENGTH}
    assert service.snapshot().num_waiting == 0


def test_a_cancelled_request_frees_its_place_before_the_next_step(service: EngineService, engine: Engine) -> None:
    entered, go = blocked(engine)
    inboxes = {name: Inbox() for name in ("r0", "r1", "r2", "r3", "r4")}
    for name in ("r0", "r1", "r2"):
        service.submit(ask(name), inboxes[name].queue.put)
    assert entered.wait(WAIT)
    for cancelled, later in (("r1", "r3"), ("r2", "r4")):
        service.cancel(cancelled)
        service.submit(ask(later), inboxes[later].queue.put)
        with pytest.raises(QueueFullError):
            service.submit(ask("more"), Inbox().queue.put)
    go.set()
    ends = {name: inbox.all()[-1].finish_reason for name, inbox in inboxes.items()}
    cancelled_ends = dict.fromkeys(("r1", "r2"), FinishReason.CANCELLED)
    assert ends == dict.fromkeys(inboxes, FinishReason.LENGTH) | cancelled_ends


def test_cancelled_requests_of_one_step_are_bounded(service: EngineService, engine: Engine) -> None:
    entered, go = blocked(engine)
    service.submit(ask("running"), Inbox().queue.put)
    assert entered.wait(WAIT)
    for index in range(11):  # four times as many as one tenant's places, with the running one
        service.submit(ask(f"r{index}"), Inbox().queue.put)
        service.cancel(f"r{index}")
    with pytest.raises(QueueFullError):
        service.submit(ask("more"), Inbox().queue.put)
    go.set()


def test_many_answers_of_one_tenant_leave_room_for_others(service: EngineService, engine: Engine) -> None:
    """One request has as many answers as there are places. Three other tenants do the same, a fifth finds no place."""
    _, go = blocked(engine, after=1)
    inboxes = {tenant: Inbox() for tenant in "abcd"}
    for tenant, inbox in inboxes.items():
        many = replace(ask(tenant), tenant=tenant, num_choices=3, sampling=SamplingParams(temperature=0))
        service.submit(many, inbox.queue.put)
        with pytest.raises(QueueFullError):
            service.submit(replace(ask("more"), tenant=tenant), Inbox().queue.put)
    with pytest.raises(QueueFullError):
        service.submit(replace(ask("e"), tenant="e"), Inbox().queue.put)
    go.set()
    for inbox in inboxes.values():
        assert inbox.all()[-1].finish_reason == FinishReason.LENGTH


def test_a_cancel_takes_effect_within_the_running_step(service: EngineService, engine: Engine) -> None:
    entered, go = blocked(engine)
    inbox = Inbox()
    service.submit(ask("a", 50), inbox.queue.put)
    assert entered.wait(WAIT)
    service.cancel("a")
    steps = engine.num_steps
    go.set()
    assert inbox.all()[-1].finish_reason is FinishReason.CANCELLED
    assert engine.num_steps <= steps + 1
    service.cancel("a")
    service.cancel("never seen")


def test_stop_ends_open_requests_with_an_error(service: EngineService, engine: Engine) -> None:
    entered, go = blocked(engine)
    running, waiting = Inbox(), Inbox()
    service.submit(ask("a", 50), running.queue.put)
    service.submit(ask("b"), waiting.queue.put)
    assert entered.wait(WAIT)
    stopper = threading.Thread(target=service.stop, args=(WAIT,))
    stopper.start()
    go.set()
    stopper.join(WAIT)
    for inbox in (running, waiting):
        last = inbox.all()[-1]
        assert last.finish_reason is FinishReason.ERROR
        assert isinstance(last.error, DrainingError)
    assert not service.alive
    with pytest.raises(DrainingError):
        service.submit(ask("c"), Inbox().queue.put)


def test_a_broken_step_ends_its_requests_and_the_next_ones_are_served(
    service: EngineService, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing, later = Inbox(), Inbox()
    with monkeypatch.context() as patch:
        patch.setattr(engine.scheduler, "plan", lambda: 1 / 0)
        service.submit(ask("a"), failing.queue.put)
        last = failing.all()[-1]
    assert isinstance(last.error, EngineError)
    service.submit(ask("b"), later.queue.put)
    assert later.all()[-1].finish_reason is FinishReason.LENGTH


def test_an_engine_that_fails_repeatedly_stops_and_refuses_requests(
    service: EngineService, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.scheduler, "plan", lambda: 1 / 0)
    for index in range(3):
        inbox = Inbox()
        service.submit(ask(f"r{index}"), inbox.queue.put)
        assert inbox.all()[-1].finish_reason is FinishReason.ERROR
    service._thread.join(WAIT)
    assert not service.alive
    with pytest.raises(EngineError, match="restart"):
        service.submit(ask("more"), Inbox().queue.put)


def test_a_prompt_beyond_the_context_is_answered_with_an_error(service: EngineService) -> None:
    inbox = Inbox()
    service.submit(Request("a", (1,) * 64, 5), inbox.queue.put)
    last = inbox.all()[-1]
    assert last.error is not None
    assert last.error.code == "context_length_exceeded"


def test_a_preempted_request_does_not_wait_for_its_first_slot(new_engine: EngineFactory) -> None:
    """`server.queue_timeout` applies only to requests that wait for their first slot."""
    engine = new_engine(num_rows=2, capacity=20_000, chunk_invariant=True)
    service = EngineService(engine, max_queue=8)
    service.start()

    def wait_until(condition: Callable[[], bool]) -> None:
        end = time.monotonic() + WAIT
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.001)

    inboxes = {name: Inbox() for name in ("older", "target", "never", "short")}
    for name in ("older", "target", "never"):
        service.submit(ask(name, 15_000, "busy"), inboxes[name].queue.put)
    wait_until(lambda: not service.is_waiting("target"))
    service.submit(ask("short", 15_000, "calm"), inboxes["short"].queue.put)
    wait_until(lambda: not service.is_waiting("short"))
    stats = service.snapshot()
    assert (stats.num_preemptions, stats.num_running, stats.num_waiting) == (1, 2, 2)
    assert [name for name in inboxes if service.is_waiting(name)] == ["never"]
    for name in inboxes:
        service.cancel(name)
    assert {inbox.all()[-1].finish_reason for inbox in inboxes.values()} == {FinishReason.CANCELLED}
    service.stop(WAIT)


@pytest.mark.parametrize("kind", synthetic.KINDS)
def test_an_idle_service_forgets_cached_tokens_and_answers_the_same_afterwards(
    new_engine: EngineFactory, kind: GraphKind
) -> None:
    engine = new_engine(num_rows=2, kind=kind, chunk_invariant=True)
    service = EngineService(engine, max_queue=2, cache_idle_timeout=0.2)
    service.start()

    def answer(name: str) -> tuple[list[int], int]:
        inbox = Inbox()
        service.submit(ask(name), inbox.queue.put)
        deltas = inbox.all()
        return [token_id for delta in deltas for token_id in delta.token_ids], deltas[-1].usage.num_reused_tokens

    def is_cached() -> bool:
        return any(slot.cached for slot in engine.scheduler.placement.slots.values())

    tokens, _ = answer("cold")
    assert answer("warm") == (tokens, 1)
    end = time.monotonic() + WAIT
    while is_cached():
        assert time.monotonic() < end
        time.sleep(0.01)
    assert answer("after the release") == (tokens, 0)
    assert service.alive
    service.stop(WAIT)
