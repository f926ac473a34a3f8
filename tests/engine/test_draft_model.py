"""A draft model changes how many steps an answer takes, never the answer, whether it is right, wrong or fails."""

from __future__ import annotations

import logging
import random
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from drafted import CHUNK, Drafted
from shadow import VOCAB, answer
from test_choices import OddGrammar
from test_engine import token_ids

from infrs.core import Delta, FinishReason, Request, SamplingParams
from infrs.engine.engine import Engine
from infrs.engine.invariants import violations
from infrs.engine.speculation.drafter import Draft
from infrs.engine.speculation.lookup import PromptLookup

GREEDY = SamplingParams(temperature=0)
PROMPT = (3, 1, 4, 1, 5)


@pytest.fixture
def no_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let only the draft model draft, because the tokens of a shadow often repeat."""
    monkeypatch.setattr(PromptLookup, "propose", lambda self, text, limit: Draft())


def finish(engine: Engine, *requests: Request) -> dict[tuple[str, int], list[Delta]]:
    answers: dict[tuple[str, int], list[Delta]] = defaultdict(list)
    for request in requests:
        engine.submit(request)
    while not engine.scheduler.is_idle:
        for delta in engine.step():
            answers[delta.request_id, delta.index].append(delta)
        assert violations(engine) == []
    return answers


def ask(name: str, prompt: tuple[int, ...] = PROMPT, max_tokens: int = 40, **fields: Any) -> Request:
    return Request(name, prompt, max_tokens, **{"sampling": GREEDY, "ignore_eos": True} | fields)


class OddTokens(OddGrammar):
    """The grammar for the vocabulary of the shadow."""

    def start(self) -> OddTokens:
        return OddTokens(self.length)

    def allowed(self) -> bytes:
        bits = np.zeros(16, dtype=np.uint8)
        bits[range(1, VOCAB, 2) if self.count < self.length else [0]] = 1
        return np.packbits(bits, bitorder="little").tobytes()


TABLE: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sampled": {"sampling": SamplingParams(seed=7)},
    "filters": {"sampling": SamplingParams(seed=7, temperature=1.3, top_k=5, top_p=0.9, min_p=0.01)},
    "penalties": {
        "sampling": SamplingParams(
            seed=3,
            presence_penalty=0.2,
            frequency_penalty=0.1,
            repetition_penalty=1.2,
            logit_bias=((2, 0.4), (5, -9.0)),
        )
    },
    "end": {"ignore_eos": False},
    "stop token": {"stop_token_ids": frozenset({4})},
    "stop string": {"stop": ("\u4e06\u4e07",)},
    "minimum": {"ignore_eos": False, "min_tokens": 20},
    "log-probabilities": {"num_logprobs": 3, "sampling": SamplingParams(seed=1)},
    "prompt log-probabilities": {"num_logprobs": 1, "prompt_logprobs": True},
    "grammar": {"ignore_eos": False, "grammar": OddTokens(25), "sampling": SamplingParams(seed=2)},
    "one token": {"max_tokens": 1},
    "two tokens": {"max_tokens": 2},
    "full row": {"max_tokens": 500},
    "choices": {"num_choices": 2, "sampling": SamplingParams(seed=5)},
}


@pytest.mark.parametrize("wrong", [0, 3, 1])
@pytest.mark.parametrize("case", TABLE)
def test_an_answer_is_the_same_with_a_draft_model(no_lookup: None, case: str, wrong: int) -> None:
    request = ask("a", **TABLE[case])
    plain, drafted = Drafted(num_rows=1, draft_seconds=100.0), Drafted(num_rows=1, wrong=wrong)
    expected, answers = finish(plain.engine, request), finish(drafted.engine, request)
    assert answers.keys() == expected.keys()
    for key, deltas in answers.items():
        assert token_ids(deltas) == token_ids(expected[key])
        for part in ("text", "logprobs", "prompt_logprobs"):
            joined = [[each for delta in d for each in getattr(delta, part)] for d in (deltas, expected[key])]
            assert joined[0] == joined[1]
        last, other = deltas[-1], expected[key][-1]
        assert (last.finish_reason, last.usage, last.stop_string) == (
            other.finish_reason,
            other.usage,
            other.stop_string,
        )
    assert plain.engine.num_draft_tokens == 0
    assert (drafted.engine.num_model_draft_tokens > 0) == (request.max_tokens > 2)
    assert drafted.draft.runner.broken == []


@pytest.mark.parametrize("case", ["greedy", "sampled", "filters", "penalties"])
def test_all_tokens_of_a_draft_model_that_is_the_model_itself_are_accepted(no_lookup: None, case: str) -> None:
    """It samples as the sequence does, with the same draws. So its rows have what they should have."""
    drafted = Drafted()
    finish(drafted.engine, ask("a", max_tokens=100, **TABLE[case]))
    finish(drafted.engine, ask("b", (*PROMPT, 2), max_tokens=100, **TABLE[case]))
    engine = drafted.engine
    assert engine.num_model_accepted_tokens == engine.num_model_draft_tokens > 150
    assert engine.num_steps < 60


def random_request(rng: random.Random, index: int) -> Request:
    shared = [1 + i % 8 for i in range(rng.choice([0, 30, 60]))]
    prompt = (*shared, *(rng.randrange(1, VOCAB) for _ in range(rng.randint(1, 20))))
    tenant = rng.choice(["a", "b"])
    return Request(f"r{index}", prompt, rng.randint(1, 40), GREEDY, num_choices=rng.choice([1, 1, 2]), tenant=tenant)


@pytest.mark.parametrize("seed", range(60))
def test_answers_that_come_and_leave_are_those_of_the_formula(seed: int) -> None:
    """Also with cancelled, paused and preempted answers, and a draft model that fails at some time."""
    rng = random.Random(seed)
    drafted = Drafted(rng.randint(1, 3), rng.randint(1, 3), wrong=rng.choice([0, 2, 5]))
    engine, draft = drafted.engine, drafted.draft.runner
    drafted.target.runner.tenant_of = lambda row: next(
        sequence.request.tenant for sequence, other in plan.running.items() if other == row
    )
    draft.tenant_of = lambda row: str(drafted.model.rows.rows[row].reader.tenant)  # type: ignore[union-attr]
    draft.fails_in = rng.choice([None, 10, 100])
    scheduler, make_plan = engine.scheduler, engine.scheduler.plan
    plan = scheduler.placement

    def planned() -> object:
        nonlocal plan
        made = make_plan()
        assert make_plan() == made
        if made is not None:
            plan = made.placement
        return made

    scheduler.plan = planned  # type: ignore[method-assign,assignment]
    to_come = [random_request(rng, index) for index in range(6)]
    requests, answers, cancelled, paused = [*to_come], defaultdict(list), set(), ""
    while to_come or not engine.scheduler.is_idle:
        if to_come and rng.random() < 0.1:
            engine.submit(to_come.pop())
        if rng.random() < 0.01 and engine.cancel(victim := rng.choice(requests).request_id):
            cancelled.add(victim)
        if rng.random() < 0.05:
            engine.set_paused(paused, paused=False)
            engine.set_paused(paused := rng.choice(requests).request_id, paused=True)
        deltas = engine.step()
        if not deltas:
            engine.set_paused(paused, paused=False)
        for delta in deltas:
            answers[delta.request_id, delta.index].append(delta)
        assert violations(engine) == []
    assert drafted.target.runner.broken == draft.broken == []
    for request in requests:
        alone = answer(request, drafted.target.runner, CHUNK)
        for index in range(request.num_choices):
            if request.request_id not in cancelled:
                assert token_ids(answers[request.request_id, index]) == alone
                assert answers[request.request_id, index][-1].finish_reason is not FinishReason.ERROR


@pytest.mark.parametrize("failing", [0, 1, 2, 5, 9])
def test_a_draft_model_that_fails_is_off_and_no_answer_shows_it(
    no_lookup: None, failing: int, caplog: pytest.LogCaptureFixture
) -> None:
    drafted = Drafted()
    drafted.draft.runner.fails_in = failing
    with caplog.at_level(logging.WARNING):
        answers = finish(drafted.engine, ask("a"), ask("b", (2, 2), 9))
        answers |= finish(drafted.engine, ask("c", (7, 7)))
    plain = Drafted(draft_seconds=100.0)
    for request in (ask("a"), ask("b", (2, 2), 9), ask("c", (7, 7))):
        name = request.request_id
        assert token_ids(answers[name, 0]) == token_ids(finish(plain.engine, request)[name, 0])
    [message] = [record.getMessage() for record in caplog.records]
    assert message == (
        "the draft model has failed and is off until the model is loaded again; answers are the same without it "
        "(MemoryError: a run that fails)"
    )
    assert drafted.model.is_off


def test_scores_of_a_draft_model_that_are_not_finite_switch_it_off(no_lookup: None) -> None:
    drafted = Drafted()
    draw = drafted.draft.runner.run
    drafted.draft.runner.run = lambda segments: draw(segments) * np.nan  # type: ignore[method-assign]
    answers = finish(drafted.engine, ask("a"))
    assert token_ids(answers["a", 0]) == token_ids(finish(Drafted(draft_seconds=100.0).engine, ask("a"))["a", 0])
    assert drafted.model.is_off


def test_a_draft_model_reads_only_for_a_sequence_that_decodes_alone(no_lookup: None) -> None:
    drafted = Drafted()
    engine = drafted.engine
    engine.submit(ask("a", max_tokens=60))
    engine.submit(ask("b", (2, 2), 20))
    engine.step()
    while len(engine.scheduler.running) > 1:
        engine.step()
        assert drafted.draft.runs == []
    finish(engine)
    assert drafted.draft.runs


def test_a_long_prompt_is_read_in_chunks_once_that_pays(no_lookup: None) -> None:
    """100 tokens cost 23 seconds, a draft saves up to 5 a token: so some tokens come first."""
    drafted = Drafted()
    prompt = tuple(1 + i % 8 for i in range(100))
    engine = drafted.engine
    engine.submit(ask("a", prompt, max_tokens=50))
    while not drafted.draft.runs:
        engine.step()
    num_before = len(next(iter(engine.scheduler.running)).tokens.output_ids)
    assert 3 <= num_before <= 8
    while not engine.num_model_draft_tokens:
        engine.step()
    lengths = [len(each.input_ids) for each in drafted.draft.runs]
    assert lengths[:6] == [CHUNK] * 6
    assert sum(lengths[:7]) == drafted.draft.runs[7].start
    finish(engine)
    short = Drafted()
    finish(short.engine, ask("b", prompt, max_tokens=4))
    assert short.draft.runs == []  # too few tokens are left for a draft model to read 100


@pytest.mark.parametrize(("tenants", "reads_again"), [(("x", "x"), False), (("x", "y"), True)])
def test_the_next_turn_continues_what_was_read_of_its_tenant(
    no_lookup: None, tenants: tuple[str, str], *, reads_again: bool
) -> None:
    drafted = Drafted()
    first = finish(drafted.engine, ask("a", max_tokens=30, tenant=tenants[0]))
    whole = (*PROMPT, *token_ids(first["a", 0]), 6, 6)
    drafted.draft.runs.clear()
    finish(drafted.engine, ask("b", whole, 40, tenant=tenants[1]))
    assert (drafted.draft.runs[0].start == 0) == reads_again
    assert drafted.engine.num_model_accepted_tokens == drafted.engine.num_model_draft_tokens


def test_an_idle_engine_releases_the_rows_of_its_draft_model(no_lookup: None) -> None:
    drafted = Drafted()
    finish(drafted.engine, ask("a"))
    assert drafted.engine.release_cache()
    drafted.draft.runs.clear()
    finish(drafted.engine, ask("b", max_tokens=30))
    assert drafted.draft.runs[0].start == 0
    assert drafted.draft.runner.broken == []
