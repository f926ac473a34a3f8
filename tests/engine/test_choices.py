"""Several answers to a request, log-probabilities, penalties and grammars, on the synthetic graph."""

from __future__ import annotations

from collections import defaultdict
from copy import copy
from dataclasses import replace

import numpy as np
import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st
from synthetic import EngineFactory

from infrs.core import Delta, FinishReason, Request, SamplingParams
from infrs.engine.engine import Engine
from infrs.engine.invariants import violations
from infrs.engine.sampling.logits import allow_only, penalize, token_logprob
from infrs.errors import EngineError

GREEDY = SamplingParams(temperature=0)
HOT = SamplingParams(temperature=3.0, seed=5)
PROMPT = tuple((5 * i) % 97 for i in range(21))


def run(engine: Engine, *requests: Request) -> dict[tuple[str, int], list[Delta]]:
    """Return the deltas of every answer, by request and index."""
    answers: dict[tuple[str, int], list[Delta]] = defaultdict(list)
    for request in requests:
        engine.submit(request)
    while not engine.scheduler.is_idle:
        for delta in engine.step():
            answers[delta.request_id, delta.index].append(delta)
        assert violations(engine) == []
    return answers


def token_ids(deltas: list[Delta]) -> list[int]:
    return [token_id for delta in deltas for token_id in delta.token_ids]


def reference_logprobs(row: np.ndarray) -> np.ndarray:
    return row - np.log(np.exp(row.astype(np.float64)).sum())


@pytest.mark.parametrize("num_rows", [1, 2, 4, 6])
@pytest.mark.parametrize("length", [1, 5, 8, 21])
def test_choices_share_one_prompt_and_do_not_depend_on_the_number_of_rows(
    new_engine: EngineFactory, num_rows: int, length: int
) -> None:
    request = Request("a", PROMPT[:length], 8, HOT, num_choices=4, ignore_eos=True)
    answers = run(new_engine(num_rows=num_rows), request, replace(request, request_id="b", num_choices=1))
    ids = [token_ids(answers["a", index]) for index in range(4)]
    assert token_ids(answers["b", 0]) == ids[0]
    assert len({tuple(i) for i in ids}) == 4
    assert ids == [token_ids(run(new_engine(num_rows=5), request)["a", index]) for index in range(4)]


def test_choices_that_start_together_cost_one_prefill(new_engine: EngineFactory) -> None:
    engine = new_engine(num_rows=4, prefill_chunk=8)
    answers = run(engine, Request("a", PROMPT, 3, HOT, num_choices=4, ignore_eos=True))
    assert [answers["a", index][-1].usage.num_reused_tokens for index in range(4)] == [0, 21, 21, 21]
    assert engine.num_steps == 3 + 2  # three chunks, the last of which gives the first tokens


@pytest.mark.parametrize("exact", [False, True])
def test_earlier_tokens_of_a_siblings_row_are_not_reused(new_engine: EngineFactory, exact: bool) -> None:
    """Another request starts with these tokens in the step in which the answers copy their prompt into the row."""
    engine = new_engine(num_rows=4, chunk_invariant=exact)
    shared = (7,) * 17
    run(engine, *(Request(name, (*shared, 1), 2, GREEDY, ignore_eos=True) for name in "xy"))
    run(engine, *(Request(name, (3, 4), 2, GREEDY, ignore_eos=True) for name in "uv"))  # the other rows
    several = Request("a", (5, 6, 8), 9, GREEDY, ignore_eos=True, num_choices=2)
    answers = run(engine, several, Request("b", (*shared, 2), 9, GREEDY, ignore_eos=True))
    assert token_ids(answers["b", 0]) == synthetic.greedy([*shared, 2], 9)
    for index in range(2):
        assert token_ids(answers["a", index]) == synthetic.greedy([5, 6, 8], 9)


def test_the_answers_of_a_request_start_in_order(new_engine: EngineFactory) -> None:
    """The first answer computes the prompt, so the first delta has its count of reused tokens."""
    engine = new_engine(num_rows=3)
    engine.submit(Request("a", PROMPT, 1, HOT, num_choices=3))
    begun = []
    while not engine.scheduler.is_idle:
        begun += [delta.index for delta in engine.step()]
    assert begun == [0, 1, 2]


def test_cancel_ends_every_choice(new_engine: EngineFactory) -> None:
    engine = new_engine(num_rows=2)
    engine.submit(Request("a", PROMPT, 30, HOT, num_choices=3, ignore_eos=True))
    for _ in range(5):
        engine.step()
    assert sorted(delta.index for delta in engine.cancel("a")) == [0, 1, 2]
    assert engine.scheduler.is_idle


def test_logprobs_do_not_depend_on_sampling_parameters(new_engine: EngineFactory) -> None:
    sampling = SamplingParams(temperature=2.0, seed=3, presence_penalty=1.0, top_k=20)
    request = Request("a", PROMPT, 12, sampling, num_logprobs=3, ignore_eos=True)
    deltas = run(new_engine(), request)["a", 0]
    entries = [entry for delta in deltas for entry in delta.logprobs]
    tokens = list(PROMPT)
    for entry, token_id in zip(entries, token_ids(deltas), strict=True):
        expected = reference_logprobs(synthetic.next_logits(tokens))
        assert entry.token_id == token_id
        assert entry.logprob == pytest.approx(expected[token_id], abs=1e-5)
        assert [i for i, _ in entry.top] == np.argsort(-expected, kind="stable")[:3].tolist()
        assert [p for _, p in entry.top] == pytest.approx(np.sort(expected)[::-1][:3], abs=1e-5)
        tokens.append(token_id)
    assert token_ids(run(new_engine(), replace(request, num_logprobs=None))["a", 0]) == token_ids(deltas)


@pytest.mark.parametrize("kind", synthetic.KINDS)
@pytest.mark.parametrize("length", [1, 2, 8, 9, 21])
def test_prompt_logprobs(new_engine: EngineFactory, kind: synthetic.GraphKind, length: int) -> None:
    engine = new_engine(kind=kind, min_rows=2 if kind == "fused" else 1)
    prompt = PROMPT[:length]
    for max_tokens in (0, 2):  # the second finds its prefix cached, but must still score it
        request = Request("a", prompt, max_tokens, GREEDY, num_logprobs=1, prompt_logprobs=True, ignore_eos=True)
        deltas = run(engine, request)["a", 0]
        entries = deltas[0].prompt_logprobs
        assert [entry.token_id for entry in entries] == list(prompt[1:])
        for place, entry in enumerate(entries, start=1):
            expected = reference_logprobs(synthetic.next_logits(list(prompt[:place])))
            assert entry.logprob == pytest.approx(expected[prompt[place]], abs=1e-5)
            assert entry.top[0][0] == int(expected.argmax())
        assert len(token_ids(deltas)) == max_tokens
        assert deltas[-1].finish_reason is FinishReason.LENGTH


def test_logprobs_end_where_the_shown_text_ends(new_engine: EngineFactory) -> None:
    plain = token_ids(run(new_engine(), Request("a", PROMPT, 10, GREEDY, ignore_eos=True))["a", 0])
    by_string = Request("a", PROMPT, 10, GREEDY, stop=(synthetic.letters(plain[4:6]),), num_logprobs=0, ignore_eos=True)
    by_token = replace(by_string, stop=(), stop_token_ids=frozenset({plain[4]}))
    for request in (by_string, by_token):
        deltas = run(new_engine(), request)["a", 0]
        assert "".join(delta.text for delta in deltas) == synthetic.letters(plain[:4])
        assert [entry.token_id for delta in deltas for entry in delta.logprobs] == plain[:4]


def test_min_tokens_delays_the_end(new_engine: EngineFactory) -> None:
    greedy = synthetic.greedy(list(PROMPT), 3)
    stops = frozenset(greedy)
    assert token_ids(run(new_engine(), Request("a", PROMPT, 9, GREEDY, stop_token_ids=stops))["a", 0]) == greedy[:1]
    longer = token_ids(run(new_engine(), Request("a", PROMPT, 9, GREEDY, stop_token_ids=stops, min_tokens=5))["a", 0])
    assert len(longer) >= 5
    assert not stops & set(longer[:5])


class OddGrammar:
    """A grammar of `length` odd tokens, followed by the end."""

    def __init__(self, length: int = 4) -> None:
        self.length, self.count = length, 0

    def start(self) -> OddGrammar:
        return OddGrammar(self.length)

    def allowed(self) -> bytes:
        ids = range(1, synthetic.VOCAB, 2) if self.count < self.length else [0]
        bits = np.zeros(104, dtype=np.uint8)
        bits[list(ids)] = 1
        return np.packbits(bits, bitorder="little").tobytes()

    def accept(self, token_id: int) -> None:
        self.count += 1

    def copy(self) -> OddGrammar:
        return copy(self)


def test_a_grammar_constrains_only_its_own_answers(new_engine: EngineFactory) -> None:
    bound = Request("a", PROMPT, 20, HOT, grammar=OddGrammar(), num_choices=2)
    free = Request("b", PROMPT, 20, HOT, ignore_eos=True)
    answers = run(new_engine(num_rows=3), bound, free)
    for index in range(2):
        ids = token_ids(answers["a", index])
        assert len(ids) == 5
        assert all(token_id % 2 for token_id in ids[:4])
        assert answers["a", index][-1].finish_reason is FinishReason.STOP
    assert token_ids(answers["b", 0]) == token_ids(run(new_engine(), free)["b", 0])


def test_penalties_equal_values_computed_by_hand() -> None:
    row = np.array([2.0, -1.0, 0.5, 1.0], np.float32)
    params = SamplingParams(
        presence_penalty=0.5, frequency_penalty=0.25, repetition_penalty=2.0, logit_bias=((3, -4.0),)
    )
    penalize(row, params, prompt_ids=[1], counts={0: 2})
    # 0: 2 / 2 - 0.5 - 2 * 0.25; 1: -1 * 2, in the prompt only; 3: 1 - 4
    assert row.tolist() == [0.0, -2.0, 0.5, -3.0]


@given(st.lists(st.booleans(), min_size=1, max_size=70), st.integers(0, 20))
def test_a_mask_keeps_only_allowed_scores(allowed: list[bool], padding: int) -> None:
    row = np.arange(len(allowed) + padding, dtype=np.float32)
    allow_only(row, np.packbits(allowed, bitorder="little").tobytes())
    expected = [float(i) if i < len(allowed) and allowed[i] else -np.inf for i in range(len(row))]
    assert row.tolist() == expected


def test_a_mask_keeps_scores_that_are_not_numbers() -> None:
    row = np.array([1.0, np.nan, 2.0], np.float32)
    allow_only(row, np.packbits([1, 0, 1], bitorder="little").tobytes())
    assert np.isnan(row).tolist() == [False, True, False]


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=40), st.data())
def test_token_logprob(values: list[int], data: st.DataObject) -> None:
    row = np.array(values, np.float32) / 2
    token_id = data.draw(st.integers(0, len(row) - 1))
    entry = token_logprob(row, token_id, 5)
    expected = reference_logprobs(row)
    assert entry.logprob == pytest.approx(expected[token_id], abs=1e-5)
    assert [i for i, _ in entry.top] == np.argsort(-row, kind="stable")[:5].tolist()


class FailingGrammar:
    """A grammar that fails at its second token."""

    def __init__(self) -> None:
        self.count = 0

    def start(self) -> FailingGrammar:
        return FailingGrammar()

    def allowed(self) -> bytes:
        return b"\xff" * 13

    def accept(self, token_id: int) -> None:
        self.count += 1
        if self.count == 2:
            raise EngineError("lost")

    def copy(self) -> FailingGrammar:
        return copy(self)


def test_a_failing_grammar_ends_only_its_own_answer(new_engine: EngineFactory) -> None:
    good = Request("good", PROMPT, 8, HOT, ignore_eos=True)
    alone = run(new_engine(), good)["good", 0]
    answers = run(new_engine(), good, replace(good, request_id="bad", grammar=FailingGrammar()))
    assert answers["bad", 0][-1].finish_reason is FinishReason.ERROR
    assert isinstance(answers["bad", 0][-1].error, EngineError)
    assert token_ids(answers["good", 0]) == token_ids(alone)
