"""The rules that hold between two steps: each of them, broken, is told, and the server counts it."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import synthetic
from synthetic import EngineFactory

from infrs.core import FinishReason, Request, SamplingParams
from infrs.engine.engine import Engine
from infrs.engine.invariants import violations
from infrs.engine.sequence import Sequence
from infrs.engine.service import EngineService

PROMPT = tuple(range(1, 9))


def sequence_of(name: str, num_preemptions: int = 0) -> Sequence:
    sequence = Sequence(Request(name, PROMPT, 20, SamplingParams(temperature=0), ignore_eos=True), synthetic.Letters())
    sequence.num_preemptions = num_preemptions
    return sequence


@pytest.fixture
def engine(new_engine: EngineFactory) -> Engine:
    """Two sequences decode in rows of two chunks and more, a third waits."""
    engine = new_engine(num_rows=2, prefill_chunk=4)
    for name in ("first", "second", "third"):
        engine.scheduler.waiting.append(sequence_of(name))
    while not all(sequence.output_ids for sequence in engine.scheduler.running) or len(engine.scheduler.running) < 2:
        engine.step()
    assert violations(engine) == []
    return engine


def share_a_row(engine: Engine, one: Sequence) -> None:
    running = engine.scheduler.running
    *_, other = running
    running[other] = running[one]


def hold(engine: Engine, one: Sequence, tokens: tuple[int, ...]) -> None:
    engine.scheduler.running[one].held = tokens


def wait(engine: Engine, *sequences: Sequence) -> None:
    for sequence in sequences:
        engine.scheduler.waiting.append(sequence)


def change(sequence: Sequence, **values: object) -> None:
    for name, value in values.items():
        setattr(sequence, name, value)


@pytest.mark.parametrize(
    ("what", "broken"),
    [
        ("two sequences share a row", share_a_row),
        ("holds part of a chunk", lambda engine, one: hold(engine, one, PROMPT[:3])),
        ("is said to hold other tokens than first's", lambda engine, one: hold(engine, one, (9, 9, 9, 9))),
        ("is said to hold more than first has computed", lambda engine, one: change(one, num_computed_tokens=3)),
        ("first runs and waits", wait),
        (
            "third waits with 1 computed tokens",
            lambda engine, one: change(next(iter(engine.scheduler.waiting)), num_computed_tokens=1),
        ),
        (
            "loser has lost its slot and waits behind one that never had any",
            lambda engine, one: wait(engine, sequence_of("loser", 1)),
        ),
        ("first has finished but is still held", lambda engine, one: change(one, finish_reason=FinishReason.STOP)),
        ("first has output before its prompt", lambda engine, one: change(one, num_computed_tokens=0)),
        ("first has lost its slot 1 times", lambda engine, one: change(one, num_preemptions=1)),
        ("first has 30 computed tokens", lambda engine, one: change(one, num_computed_tokens=30)),
        ("first is longer than its row", lambda engine, one: change(engine.runner, capacity=8)),
    ],
)
def test_each_rule_that_is_broken_is_told(
    engine: Engine, what: str, broken: Callable[[Engine, Sequence], None]
) -> None:
    broken(engine, next(iter(engine.scheduler.running)))
    assert any(what in violation for violation in violations(engine)), violations(engine)


def test_an_idle_server_logs_and_counts_what_is_broken(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
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
    assert "a rule of the engine is broken: first has lost its slot 1 times" in caplog.text
