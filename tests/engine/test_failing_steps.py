"""A step that fails ends only the requests it must, and leaves no wrong state behind."""

from __future__ import annotations

import logging
import queue
import sys
from collections import defaultdict
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import pytest
import synthetic
from poison import poisoned_sample
from synthetic import EngineFactory

from infrs.core import Delta, FinishReason, Request, SamplingParams
from infrs.engine.engine import Engine
from infrs.engine.invariants import violations
from infrs.engine.runners.runner import Segment
from infrs.engine.runners.session import Logits
from infrs.engine.sequence import Sequence
from infrs.engine.service import EngineService

GREEDY = SamplingParams(temperature=0)
SEEDED = SamplingParams(temperature=1.5, seed=11)
WAIT = 10.0
MARK = 96  # the scores after a prompt that begins with this token are poisoned
LONG = (5, 6, 7) * 6  # two chunks and a half


def ask(name: str, prompt: tuple[int, ...], max_tokens: int = 8, **fields: Any) -> Request:
    return Request(name, prompt, max_tokens, ignore_eos=True, **({"sampling": GREEDY} | fields))


def run(engine: Engine, *requests: Request) -> dict[str, list[Delta]]:
    answers: dict[str, list[Delta]] = defaultdict(list)
    for request in requests:
        engine.submit(request)
    while not engine.scheduler.is_idle:
        for delta in engine.step():
            answers[delta.request_id].append(delta)
        assert violations(engine) == []
    return answers


def contents(deltas: list[Delta]) -> list[object]:
    return [(d.text, d.token_ids, d.finish_reason, d.logprobs, d.prompt_logprobs) for d in deltas]


def poison(monkeypatch: pytest.MonkeyPatch, engine: Engine, value: float, *, at: int) -> None:
    """Overwrite scores where the prompt begins with MARK: after `at` tokens, or of the prompt if `at` is negative."""

    def is_sick(sequence: Sequence) -> bool:
        return sequence.request.prompt_ids[0] == MARK and len(sequence.tokens.output_ids) == at

    run_segments = engine.runner.run

    def poisoned_run(segments: list[Segment]) -> Logits:
        scores = run_segments(segments)
        if at < 0 and segments[0].start == 0 and segments[0].input_ids[:1] == (MARK,) and len(scores) > 1:
            scores = scores.copy()
            scores[0] = value
        return scores

    monkeypatch.setattr(Sequence, "sample", poisoned_sample(value, is_sick))
    monkeypatch.setattr(engine.runner, "run", poisoned_run)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("at", [-1, 0, 1, 5])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_end_their_own_request(
    new_engine: EngineFactory, monkeypatch: pytest.MonkeyPatch, value: float, at: int, exact: bool
) -> None:
    """The request is greedy or seeded, has log-probabilities and several chunks, and runs with three others."""
    asked = {"num_logprobs": 2, "prompt_logprobs": at < 0}
    healthy = [
        ask("greedy", (1, *LONG), **asked),
        ask("seeded", (2, 3), sampling=SEEDED, **asked),
        ask("several", (4, *LONG), sampling=SEEDED, num_choices=2, **asked),
    ]
    alone = {request.request_id: contents(run(new_engine(), request)[request.request_id]) for request in healthy[:2]}
    engine = new_engine(num_rows=5, chunk_invariant=exact)
    expected = contents(run(new_engine(num_rows=5, chunk_invariant=exact), healthy[2])["several"])
    poison(monkeypatch, engine, value, at=at)
    for sampling, fields in ((GREEDY, asked), (SEEDED, asked), (GREEDY, {"prompt_logprobs": at < 0})):
        sick = ask("sick", (MARK, *LONG), sampling=sampling, **fields)
        answers = run(engine, sick, *healthy)
        last = answers["sick"][-1]
        assert last.finish_reason is FinishReason.ERROR
        assert last.error is not None
        assert last.error.code == "numerical_error"
        scores = [entry.logprob for delta in answers["sick"] for entry in (*delta.logprobs, *delta.prompt_logprobs)]
        assert np.isfinite(scores).all()
        for name, answer in alone.items():
            assert contents(answers[name]) == answer
        assert sorted(contents(answers["several"]), key=repr) == sorted(expected, key=repr)
    # No later request can reuse a prompt with broken scores.
    assert all(slot.cached[:1] != (MARK,) for slot in engine.scheduler.placement.slots.values())


def raise_at(engine: Engine, number: int, error: Exception) -> list[int]:
    """Make the engine's steps raise at their `number`-th call of an engine function; return the count of calls."""
    step, counted = engine.step, [0]

    def trace(frame: FrameType, event: str, _: object) -> None:
        if "/infrs/engine/" in frame.f_code.co_filename:
            counted[0] += 1
            if counted[0] == number:
                raise type(error)(*error.args)  # an error that is raised twice keeps both engines alive

    def traced() -> list[Delta]:
        sys.settrace(trace)
        try:
            return step()
        finally:
            sys.settrace(None)

    engine.step = traced  # type: ignore[method-assign]
    return counted


REQUESTS = [
    ask("a", (1, *LONG), num_logprobs=1),
    ask("b", (1, *LONG[:-1], 9), 5, num_choices=2),
    ask("c", (3, 4), 3, prompt_logprobs=True, num_logprobs=0),
    ask("d", (5,), 6, stop=("x" + synthetic.letters([1]),), tenant="other"),
]
EXPECTED = {r.request_id: synthetic.greedy(list(r.prompt_ids), r.max_tokens) for r in REQUESTS}


def serve(service: EngineService, started: bool) -> dict[str, list[Delta]]:
    """Return the deltas of each of REQUESTS, until all its answers have ended."""
    inbox: queue.Queue[Delta] = queue.Queue()
    for request in REQUESTS:
        service.submit(request, inbox.put)
    if not started:
        service.start()
    answers: dict[str, list[Delta]] = {request.request_id: [] for request in REQUESTS}
    left = {request.request_id: request.num_choices for request in REQUESTS}
    while any(left.values()):
        try:
            delta = inbox.get(timeout=WAIT)
        except queue.Empty:
            pytest.fail(f"never ended: {left}")
        answers[delta.request_id].append(delta)
        left[delta.request_id] -= delta.finish_reason is not None
    return answers


def token_ids(deltas: list[Delta], index: int) -> list[int]:
    return [token_id for delta in deltas if delta.index == index for token_id in delta.token_ids]


@pytest.mark.nightly("a step that fails")
@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("/secret/path")], ids=lambda error: type(error).__name__)
def test_a_step_that_fails_at_any_call_leaves_no_wrong_state(
    new_engine: EngineFactory,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    *,
    full: bool,
    figure: Callable[[str], None],
) -> None:
    """Each request ends with its answer or an error. Later requests get right answers, so no wrong state is reused."""
    caplog.set_level(logging.CRITICAL, "infrs.engine.service")  # a log record of an error keeps its engine alive
    number = failed = 0
    calls = 1
    while number < calls:
        engine = new_engine(num_rows=3, num_spare_rows=1, chunk_invariant=True, min_kept=4)
        service = EngineService(engine, max_queue=8)
        counted = raise_at(engine, number, error)
        answers = serve(service, started=False)
        calls = counted[0] if number == 0 else calls  # the first pass counts the calls
        for request in REQUESTS:
            given = answers[request.request_id]
            ended = [delta for delta in given if delta.finish_reason]
            assert sorted(delta.index for delta in ended) == list(range(request.num_choices)), number
            failed += any(delta.error is not None for delta in ended)
            for delta in ended:
                ids = token_ids(given, delta.index)
                assert ids == EXPECTED[request.request_id][: len(ids)], number
                whole = len(ids) == request.max_tokens
                assert whole if delta.error is None else delta.finish_reason is FinishReason.ERROR
                if isinstance(error, MemoryError) and delta.error is not None:
                    assert delta.error.code == "out_of_memory"
        again = serve(service, started=True)
        for request in REQUESTS:
            for index in range(request.num_choices):
                assert token_ids(again[request.request_id], index) == EXPECTED[request.request_id], number
        service.stop(WAIT)
        assert violations(engine) == []
        assert service.snapshot().num_open == 0
        number += 1 if full or number == 0 else 11
    assert failed > calls / 20
    figure(f"at each of {calls} calls: all end, the next are right")


def test_a_prefix_is_not_reused_from_a_row_with_a_failed_copy(new_engine: EngineFactory) -> None:
    """Two requests with the same prefix come in one step. The first is to copy it into its row, and fails."""
    engine = new_engine(num_rows=3, chunk_invariant=True)
    first, second = ask("first", (*LONG, 1)), ask("second", (*LONG, 2))
    for request in (ask("a", (3, 4), 1), ask("b", (4, 3), 1), ask("holder", (*LONG, 3), 30)):  # in the last row
        engine.submit(request)
    while not all(sequence.tokens.output_ids for sequence in engine.scheduler.running) or engine.scheduler.waiting:
        engine.step()
    copy = engine.runner.store.copy

    def fail_once(*_: object) -> None:
        engine.runner.store.copy = copy  # type: ignore[method-assign]
        raise MemoryError

    engine.runner.store.copy = fail_once  # type: ignore[method-assign]
    answers = run(engine, first, second)
    assert answers["first"][-1].finish_reason is FinishReason.ERROR
    assert token_ids(answers["second"], 0) == synthetic.greedy([*LONG, 2], 8)


def test_a_failing_decoder_ends_only_its_own_request(new_engine: EngineFactory) -> None:
    """The detokenizer fails while the answer is written, and again when its buffered text is requested."""

    class Broken(synthetic.Letters):
        def feed(self, token_id: int) -> str:
            raise ValueError("a library failed")

        def flush(self) -> str:
            raise ValueError("a library failed again")

    decoders = iter([Broken(), synthetic.Letters()])
    engine = new_engine(num_rows=2, new_decoder=lambda: next(decoders))
    answers = run(engine, ask("sick", (1, *LONG)), ask("healthy", (2, 3)))
    [last] = answers["sick"]
    assert last.error is not None
    assert last.error.code == "engine_error"
    assert token_ids(answers["healthy"], 0) == synthetic.greedy([2, 3], 8)
