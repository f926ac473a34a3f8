"""Each broken invariant is reported, and the server counts it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import pytest
import synthetic
from synthetic import EngineFactory

from infrs.core import FinishReason, Request, SamplingParams
from infrs.engine.engine import Engine
from infrs.engine.invariants import violations
from infrs.engine.scheduling.snapshots import Snapshot
from infrs.engine.sequence import Sequence
from infrs.engine.service import EngineService

PROMPT = tuple(range(1, 9))


def sequence_of(name: str, num_preemptions: int = 0) -> Sequence:
    sequence = Sequence(Request(name, PROMPT, 20, SamplingParams(temperature=0), ignore_eos=True), synthetic.Letters())
    sequence.num_preemptions = num_preemptions
    return sequence


@pytest.fixture
def engine(new_engine: EngineFactory) -> Engine:
    """Return an engine in which two sequences decode, with two chunks or more in their rows, and a third waits."""
    engine = new_engine(num_rows=2, prefill_chunk=4)
    for name in ("first", "second", "third"):
        engine.scheduler.waiting.append(sequence_of(name))
    while (
        not all(sequence.tokens.output_ids for sequence in engine.scheduler.running)
        or len(engine.scheduler.running) < 2
    ):
        engine.step()
    assert violations(engine) == []
    return engine


def share_a_row(engine: Engine, one: Sequence) -> None:
    running = engine.scheduler.running
    *_, other = running
    running[other] = running[one]


def cache(engine: Engine, one: Sequence, tokens: tuple[int, ...]) -> None:
    change_slot(engine, one, cached=tokens)


def save(engine: Engine, one: Sequence, snapshot: Snapshot) -> None:
    change_slot(engine, one, snapshots=(snapshot,))


def running(engine: Engine) -> list[Sequence]:
    return [*engine.scheduler.running]


def change_slot(engine: Engine, one: Sequence, **fields: object) -> None:
    placement = engine.scheduler.placement
    row = placement.running[one]
    placement.slots[row] = replace(placement.slots[row], **fields)  # type: ignore[arg-type]


def wait(engine: Engine, *sequences: Sequence) -> None:
    for sequence in sequences:
        engine.scheduler.waiting.append(sequence)


def change(target: object, **values: object) -> None:
    for name, value in values.items():
        setattr(target, name, value)


@pytest.mark.parametrize(
    ("what", "broken"),
    [
        ("two sequences share a row", share_a_row),
        ("caches part of a chunk", lambda engine, one: cache(engine, one, PROMPT[:3])),
        ("caches other tokens than those of first", lambda engine, one: cache(engine, one, (9, 9, 9, 9))),
        ("caches more than first has computed", lambda engine, one: change(one.tokens, num_computed=3)),
        ("has a snapshot of 9 tokens but caches 8", lambda engine, one: save(engine, one, Snapshot(0, 9))),
        (
            "two rows have snapshot 0 after different tokens",
            lambda engine, one: [save(engine, each, Snapshot(0, 4 + 2 * (each is one))) for each in running(engine)],
        ),
        (
            "although first has begun",
            lambda engine, one: change_slot(engine, one, is_current=True),
        ),
        ("first runs and waits", wait),
        (
            "third waits with 1 computed tokens",
            lambda engine, one: change(next(iter(engine.scheduler.waiting)).tokens, num_computed=1),
        ),
        (
            "loser was preempted and waits behind one that never had a row",
            lambda engine, one: wait(engine, sequence_of("loser", 1)),
        ),
        (
            "first has finished but is still in the engine",
            lambda engine, one: change(one.output, finish_reason=FinishReason.STOP),
        ),
        ("first has output before its prompt", lambda engine, one: change(one.tokens, num_computed=0)),
        ("first was preempted 1 times", lambda engine, one: change(one, num_preemptions=1)),
        ("first has 30 computed tokens", lambda engine, one: change(one.tokens, num_computed=30)),
        ("first is longer than its row", lambda engine, one: change(engine.runner, capacity=8)),
    ],
)
def test_each_broken_invariant_is_reported(
    engine: Engine, what: str, broken: Callable[[Engine, Sequence], None]
) -> None:
    broken(engine, next(iter(engine.scheduler.running)))
    assert any(what in violation for violation in violations(engine)), violations(engine)


def test_an_idle_server_logs_and_counts_broken_invariants(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    counted: list[str] = []

    class Observer:
        def __getattr__(self, name: str) -> Callable[..., None]:
            return lambda *_: counted.append(name)

    service = EngineService(engine, max_queue=2)
    service.observer = Observer()  # type: ignore[assignment]
    change(next(iter(engine.scheduler.running)), num_preemptions=1)
    with caplog.at_level(logging.CRITICAL):
        service._check_invariants()
    assert counted == ["violated"]
    assert "an invariant of the engine is broken: first was preempted 1 times" in caplog.text
