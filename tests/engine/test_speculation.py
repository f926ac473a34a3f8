"""Drafts change how many steps an answer takes, never the answer."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st
from synthetic import EngineFactory
from test_engine import ask, run, token_ids

from infrs.core import FinishReason, SamplingParams
from infrs.engine.speculation.drafter import Draft, Text
from infrs.engine.speculation.lookup import PromptLookup


def propose(lookup: PromptLookup, text: list[int], limit: int) -> tuple[int, ...]:
    return lookup.propose(text, limit).tokens


def test_the_tokens_after_the_previous_occurrence_are_the_draft() -> None:
    lookup = PromptLookup()
    draft = lookup.propose([1, 2, 3, 4, 5, 6, 9, 1, 2, 3], 10)
    assert draft.tokens == (4, 5, 6)
    lookup.record(draft, 3)
    assert propose(lookup, [1, 2, 3, 4, 5, 6, 9, 1, 2, 3, 4, 5, 6, 9], 10) == (1, 2, 3, 4, 5, 6)
    assert propose(lookup, [1, 2, 3, 4, 5, 6, 9, 1, 2, 3, 4, 5, 6, 9], 2) == (1, 2)


def test_a_text_that_does_not_repeat_has_no_draft() -> None:
    lookup = PromptLookup()
    for length in range(40):
        draft = lookup.propose(list(range(length)), 5)
        assert draft.tokens == ()
        lookup.record(draft, 0)


def test_rejected_drafts_become_rare_and_accepted_ones_end_the_pause() -> None:
    lookup = PromptLookup()
    text = [1, 2, 3] * 200
    num_drafts = 0
    for length in range(10, 500):
        draft = lookup.propose(text[:length], 8)
        num_drafts += bool(draft.tokens)
        lookup.record(draft, 0)
    assert num_drafts < 25
    while not (draft := lookup.propose(text, 8)).tokens:
        lookup.record(draft, 0)
    assert len(draft.tokens) == 1  # a short one, until one is accepted
    lookup.record(draft, 1)
    assert len(propose(lookup, text, 8)) == 2


@given(st.lists(st.lists(st.integers(0, 3), max_size=12), min_size=1, max_size=8), st.integers(1, 9))
def test_a_draft_is_the_text_after_the_last_equal_tokens(parts: list[list[int]], limit: int) -> None:
    """The n-gram before it may be in the index or in the draft itself."""
    lookup, text = PromptLookup(), []
    for number, part in enumerate(parts):
        text += part
        draft = lookup.propose(text, limit)
        assert lookup.propose(text, limit) == draft
        assert len(draft.tokens) <= limit
        if draft.tokens:
            places = [end for end in range(3, len(text)) if text[end - 3 : end] == text[-3:]]
            assert draft.tokens == tuple(text[places[-1] : places[-1] + len(draft.tokens)])
        if number % 2:
            lookup.record(draft, len(draft.tokens))


def test_a_draft_is_proposed_from_the_whole_text_so_far(
    new_engine: EngineFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer decodes alone, then with another one, and then alone again."""
    texts: list[list[int]] = []
    monkeypatch.setattr(PromptLookup, "propose", lambda self, text, limit: texts.append([*text[:]]) or Draft())
    engine = new_engine(chunk_invariant=True)
    engine.submit(ask("a", [3, 4], 30, ignore_eos=True))
    for _ in range(5):
        engine.step()
    engine.submit(ask("b", [5, 6], 6, ignore_eos=True))
    while not engine.scheduler.is_idle:
        engine.step()
    whole = [3, 4, *synthetic.greedy([3, 4], 30)]
    assert texts == [whole[: len(text)] for text in texts]
    lengths = [len(text) for text in texts]
    assert (lengths[0], lengths[-1]) == (3, len(whole) - 2)  # the last token needs no draft
    assert max(b - a for a, b in pairwise(lengths)) > 1


@pytest.mark.parametrize("seed", range(60))
def test_an_answer_is_the_same_with_accepted_and_rejected_drafts(
    new_engine: EngineFactory, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = random.Random(seed)
    prompt = [rng.randrange(97) for _ in range(rng.randint(1, 20))]
    sampling = SamplingParams(
        temperature=rng.choice([0, 1.0]), seed=seed, repetition_penalty=rng.choice([1, 1.2]), top_k=rng.choice([0, 4])
    )
    stop_ids = frozenset(rng.sample(range(97), rng.choice([0, 3])))
    request = ask("a", prompt, rng.randint(1, 30), sampling=sampling, stop_token_ids=stop_ids, num_logprobs=2)
    plain = run(new_engine(capacity=48), request)["a"]
    whole = [*prompt, *token_ids(plain)]

    drafts: dict[int, Draft] = {}  # by length of the text: a plan may be made twice

    def sometimes_right(self: PromptLookup, text: Text, limit: int) -> Draft:
        right = whole[len(text) : len(text) + rng.randint(0, 6)]
        return drafts.setdefault(
            len(text), Draft(tuple(token if rng.random() < 0.8 else rng.randrange(97) for token in right)[:limit])
        )

    monkeypatch.setattr(PromptLookup, "propose", sometimes_right)
    engine = new_engine(capacity=48, chunk_invariant=True)
    drafted = run(engine, request)["a"]
    assert token_ids(drafted) == token_ids(plain)
    assert [d.logprobs for d in drafted] == [d.logprobs for d in plain]
    assert drafted[-1].finish_reason == plain[-1].finish_reason
    assert drafted[-1].usage == plain[-1].usage
    # Rejected tokens lie behind the end of the row and are not reused.
    again = [*whole[:-1], 5, 6][:40]
    monkeypatch.undo()
    assert token_ids(run(engine, ask("b", again, 5, ignore_eos=True))["b"]) == synthetic.greedy(again, 5)


def test_accepted_drafts_save_steps(new_engine: EngineFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [3, 4, *synthetic.greedy([3, 4], 33)]

    def right(self: PromptLookup, text: Text, limit: int) -> Draft:
        return Draft(tuple(whole[len(text) :][: min(limit, 7)]))

    monkeypatch.setattr(PromptLookup, "propose", right)
    engine = new_engine(chunk_invariant=True)
    assert token_ids(run(engine, ask("a", [3, 4], 33, ignore_eos=True))["a"]) == whole[2:]
    assert (engine.num_draft_tokens, engine.num_accepted_tokens) == (28, 28)
    assert engine.num_steps == 5  # the prompt and its first token, then four times eight


def test_nothing_is_drafted_without_speculation(new_engine: EngineFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PromptLookup, "propose", lambda self, text, limit: Draft((1, 2)))
    engine = new_engine(chunk_invariant=True, drafts=False)
    assert token_ids(run(engine, ask("a", [3, 4], 33, ignore_eos=True))["a"]) == synthetic.greedy([3, 4], 33)
    assert (engine.num_draft_tokens, engine.num_steps) == (0, 33)


def test_scores_that_are_not_finite_accept_no_draft_token(
    new_engine: EngineFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = new_engine(chunk_invariant=True)
    engine.submit(ask("a", [3, 4], 33, ignore_eos=True))
    engine.step()
    monkeypatch.setattr(PromptLookup, "propose", lambda self, text, limit: Draft((1, 2)))
    monkeypatch.setattr(engine.runner, "run", lambda *_: np.full((3, synthetic.VOCAB), np.nan, np.float32))
    [delta] = engine.step()
    assert (delta.finish_reason, delta.error and delta.error.code) == (FinishReason.ERROR, "numerical_error")
    assert (engine.num_draft_tokens, engine.num_accepted_tokens) == (2, 0)


def test_a_failing_verification_ends_its_answer_and_caches_nothing(
    new_engine: EngineFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = new_engine(chunk_invariant=True)
    engine.submit(ask("a", [3, 4], 33, ignore_eos=True))
    engine.step()

    def fail(*_: object) -> None:
        raise RuntimeError("no memory")

    with monkeypatch.context() as broken:
        broken.setattr(PromptLookup, "propose", lambda self, text, limit: Draft((1, 2)))
        broken.setattr(engine.runner, "run", fail)
        [delta] = engine.step()
    assert (delta.finish_reason, delta.error and delta.error.code) == (FinishReason.ERROR, "engine_error")
    assert engine.num_draft_tokens == 0
    assert all(slot.cached == () for slot in engine.scheduler.placement.slots.values())
    assert token_ids(run(engine, ask("b", [3, 4], 9, ignore_eos=True))["b"]) == synthetic.greedy([3, 4], 9)
