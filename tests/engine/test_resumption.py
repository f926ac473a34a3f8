"""A sequence that is preempted and resumed gives the same answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import attention
import numpy as np
import pytest
import synthetic
from synthetic import EngineFactory
from test_choices import OddGrammar
from test_preemption import FILLER, HOT, PROMPT, answers_of, ask, finish, steps

from infrs.core import Delta, FinishReason
from infrs.engine.engine import Engine
from infrs.engine.runners.opening import open_runner
from infrs.engine.runners.runner import Rows, Segment
from infrs.engine.runners.session import Logits
from infrs.engine.scheduling.fairness import MAX_PREEMPTIONS
from infrs.engine.scheduling.planner import Planner, SchedulingPolicy

LOOPING = tuple([3, 1, 4, 1, 5] * 4)
TARGETS = {
    "greedy": ask("target", prompt=PROMPT),
    "seeded, penalties, logprobs": ask("target", prompt=PROMPT, sampling=HOT, num_logprobs=3),
    "unusual filters": ask(
        "target", prompt=PROMPT, sampling=replace(HOT, top_k=20, top_p=0.9, min_p=0.01, typical_p=0.95), num_logprobs=0
    ),
    "scores of the prompt": ask("target", prompt=PROMPT, num_logprobs=2, prompt_logprobs=True),
    "least tokens": ask("target", prompt=PROMPT, min_tokens=20, stop_token_ids=frozenset(range(0, 97, 2))),
    "grammar": ask("target", prompt=PROMPT, sampling=HOT, grammar=OddGrammar(30), ignore_eos=False),
    "stop string": ask(
        "target", prompt=PROMPT, stop=(synthetic.letters(synthetic.greedy(list(PROMPT), 30)[27:]),), num_logprobs=1
    ),
    "stop string that never comes": ask(
        "target", prompt=PROMPT, stop=(synthetic.letters(synthetic.greedy(list(PROMPT), 9)[6:8]) + "?",)
    ),
    "two answers": ask("target", prompt=PROMPT, sampling=HOT, num_logprobs=2, num_choices=2),
    "two answers, scores of the prompt": ask(
        "target", prompt=PROMPT, sampling=HOT, num_logprobs=2, prompt_logprobs=True, num_choices=2
    ),
    "one token": ask("target", prompt=PROMPT, max_tokens=1),
    "no token": ask("target", prompt=PROMPT, max_tokens=0, prompt_logprobs=True, num_logprobs=1),
    "a text that repeats": ask("target", prompt=LOOPING),
    "to the end of the context": ask("target", prompt=PROMPT, max_tokens=1000),
}


@pytest.mark.parametrize("num_spare_rows", [0, 2])
@pytest.mark.parametrize("kind", TARGETS)
def test_a_sequence_preempted_after_any_step_gives_the_same_deltas(
    new_engine: EngineFactory, kind: str, num_spare_rows: int
) -> None:
    """Preempted after each of the first 32 steps, then repeatedly, with its keys and values cached or dropped."""
    num_choices = TARGETS[kind].num_choices
    policy = {"min_kept": 4, "patience": 0}  # with patience it rarely resumes in time
    engine = new_engine(num_rows=2 * num_choices, num_spare_rows=num_spare_rows, chunk_invariant=True, **policy)

    def begin(step: int) -> None:
        tenant = f"busy{step}"  # a new one each time, because rows still cache the last answer
        for number in range(num_choices):
            engine.submit(ask(f"older{number}", tenant, prompt=FILLER, max_tokens=55))
        engine.submit(replace(TARGETS[kind], tenant=tenant))

    begin(0)
    expected = answers_of(finish(engine))
    assert engine.scheduler.placement.num_preemptions == 0
    lost: set[int] = set()
    for step in range(1, 33):
        begin(step)
        deltas = steps(engine, step)
        for times in range(MAX_PREEMPTIONS + 1):
            for number in range(num_choices):
                engine.submit(ask(f"short{times}-{number}", "calm", max_tokens=1 + step % 5, prompt=(7, 8, 9)))
            deltas += steps(engine, 1 + step % 7)
            lost |= {sequence.num_preemptions for sequence in engine.scheduler.find("target")}
        deltas += finish(engine)
        assert answers_of(deltas) == expected, step
    assert lost >= set(range(1, 2 if TARGETS[kind].max_tokens < 2 else MAX_PREEMPTIONS + 1))


@pytest.mark.parametrize(("num_spare_rows", "expected"), [(1, []), (0, [35])])
def test_computed_tokens_of_a_preempted_sequence_are_kept_in_a_spare_row(
    new_engine: EngineFactory, monkeypatch: pytest.MonkeyPatch, num_spare_rows: int, expected: list[int]
) -> None:
    """With a spare row, nothing is computed again. Without one, the prompt of 21 and 14 tokens of the answer are."""
    engine = new_engine(num_rows=2, num_spare_rows=num_spare_rows, prefill_chunk=64, chunk_invariant=True, min_kept=4)
    engine.submit(ask("older", prompt=FILLER))
    engine.submit(ask("target", prompt=PROMPT))
    steps(engine, 15)
    engine.submit(ask("short", "calm", max_tokens=1, prompt=(7,) * 36))
    steps(engine, 1)
    computed: list[int] = []
    run_segments = engine.runner.run

    def counted(segments: list[Segment]) -> Logits:
        computed.extend(len(segment.input_ids) for segment in segments if not len(segment.scored))
        return run_segments(segments)

    monkeypatch.setattr(engine.runner, "run", counted)
    steps(engine, 20)
    assert computed == expected


def test_a_resumed_sequence_copies_no_prompt_of_a_sibling(new_engine: EngineFactory) -> None:
    """An answer draws its first token from a sibling's scores if it has no output and need not score the prompt."""
    engine = new_engine(num_rows=4, chunk_invariant=True)
    engine.submit(ask("target", prompt=PROMPT, num_choices=4, prompt_logprobs=True))
    scores, first, resumed, fresh = engine.scheduler.waiting
    resumed.tokens.output_ids.append(5)
    planner = Planner(engine.scheduler.limits, engine.scheduler.placement)
    planner.plan()
    assert planner._siblings(first) == [fresh]
    assert planner._siblings(fresh) == [first]
    assert planner._siblings(scores) == [first, fresh]


@pytest.mark.parametrize("num_spare_rows", [0, 1])
def test_logprobs_of_infrs_kernels_keep_their_bits_after_preemption(tmp_path: Path, num_spare_rows: int) -> None:
    """Scores are sums of floats here. The sequence is preempted after each of the first 32 steps."""
    attention.build(tmp_path / "model.onnx")
    runner = open_runner(tmp_path, attention.manifest(), Rows(2, 400, num_spare_rows=num_spare_rows), threads=1)
    assert runner.kernels
    runner.capabilities = replace(runner.capabilities, chunk_invariant=True)
    engine = Engine(runner, synthetic.Letters, frozenset({0}), 64, SchedulingPolicy(patience=0))
    prompt = tuple(int(token) for token in np.random.default_rng(0).integers(1, 97, 290))  # beyond one partition
    expected: dict[int, list[Delta]] = {}
    for step in range(33):
        engine.submit(ask("older", f"busy{step}", max_tokens=60))
        engine.submit(ask("target", f"busy{step}", prompt=prompt, sampling=HOT, num_logprobs=3))
        deltas = steps(engine, step)
        if step:
            engine.submit(ask("short", "calm", max_tokens=2, prompt=prompt[:100]))
        answer = answers_of([*deltas, *finish(engine)])
        expected = expected or answer
        assert answer == expected, step
        assert engine.scheduler.placement.num_preemptions == step


def test_a_failing_resumption_ends_only_its_own_answer(
    new_engine: EngineFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = new_engine(num_rows=2, chunk_invariant=True)
    engine.submit(ask("older"))
    engine.submit(ask("target"))
    steps(engine, 4)
    engine.submit(ask("short", "calm", max_tokens=1))
    deltas = steps(engine, 1)

    healthy = engine.runner.run

    def broken(segments: list[Segment]) -> Logits:
        if any(not len(segment.scored) for segment in segments):  # the tokens that are computed again
            raise RuntimeError("no memory")
        return healthy(segments)

    with monkeypatch.context() as patch:
        patch.setattr(engine.runner, "run", broken)
        while not any(delta.request_id == "target" for delta in deltas):
            deltas = steps(engine, 1)
    [last] = [delta for delta in deltas if delta.request_id == "target"]
    assert last.finish_reason is FinishReason.ERROR
    assert {delta.request_id for delta in finish(engine)} == {"older"}
