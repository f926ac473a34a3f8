"""Guessing ahead changes how many steps an answer takes, never the answer."""

from __future__ import annotations

import random
from collections.abc import Sequence as Tokens
from itertools import pairwise

import numpy as np
import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st
from synthetic import EngineFactory
from test_engine import ask, run, token_ids

from infrs.core import FinishReason, SamplingParams
from infrs.engine.speculation import PromptLookup


def test_what_followed_the_last_time_is_guessed_again() -> None:
    lookup = PromptLookup()
    assert lookup.guess([1, 2, 3, 4, 5, 6, 9, 1, 2, 3], 10) == (4, 5, 6)
    lookup.learn(3, 3)
    assert lookup.guess([1, 2, 3, 4, 5, 6, 9, 1, 2, 3, 4, 5, 6, 9], 10) == (1, 2, 3, 4, 5, 6)
    assert lookup.guess([1, 2, 3, 4, 5, 6, 9, 1, 2, 3, 4, 5, 6, 9], 2) == (1, 2)


def test_nothing_is_guessed_of_a_text_that_does_not_repeat() -> None:
    lookup = PromptLookup()
    assert [lookup.guess(list(range(length)), 5) for length in range(40)] == [()] * 40


def test_wrong_guesses_become_rare_and_right_ones_end_the_pause() -> None:
    lookup = PromptLookup()
    text = [1, 2, 3] * 200
    guesses = []
    for length in range(10, 500):
        if guess := lookup.guess(text[:length], 8):
            guesses.append(length)
            lookup.learn(len(guess), 0)
    assert len(guesses) < 25
    while not (guess := lookup.guess(text, 8)):
        pass
    assert len(guess) == 1  # a small one, until it is right again
    lookup.learn(1, 1)
    assert len(lookup.guess(text, 8)) == 2


@given(st.lists(st.lists(st.integers(0, 3), max_size=12), min_size=1, max_size=8), st.integers(1, 9))
def test_a_guess_is_what_stood_behind_the_same_tokens(parts: list[list[int]], limit: int) -> None:
    lookup, text = PromptLookup(), []
    for part in parts:
        text += part
        guess = lookup.guess(text, limit)
        assert len(guess) <= limit
        if guess:
            places = [end for end in range(3, len(text)) if text[end - 3 : end] == text[-3:]]
            assert guess == tuple(text[places[-1] : places[-1] + len(guess)])


def test_a_guess_is_made_of_the_whole_text_so_far(new_engine: EngineFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an answer that runs alone, is joined by another, and is alone again."""
    texts: list[list[int]] = []
    monkeypatch.setattr(PromptLookup, "guess", lambda self, text, limit: texts.append([*text]) or ())
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
    assert (lengths[0], lengths[-1]) == (3, len(whole) - 2)  # the last token is not worth a guess
    assert max(b - a for a, b in pairwise(lengths)) > 1


@pytest.mark.parametrize("seed", range(60))
def test_an_answer_is_the_same_with_guesses_right_and_wrong(
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

    def guess(self: PromptLookup, text: Tokens[int], limit: int) -> tuple[int, ...]:
        right = whole[len(text) : len(text) + rng.randint(0, 6)]
        return tuple(token if rng.random() < 0.8 else rng.randrange(97) for token in right)[:limit]

    monkeypatch.setattr(PromptLookup, "guess", guess)
    engine = new_engine(capacity=48, chunk_invariant=True)
    guessed = run(engine, request)["a"]
    assert token_ids(guessed) == token_ids(plain)
    assert [d.logprobs for d in guessed] == [d.logprobs for d in plain]
    assert guessed[-1].finish_reason == plain[-1].finish_reason
    assert guessed[-1].usage == plain[-1].usage
    # What was guessed wrongly lies behind the row's end and is not taken for part of it.
    again = [*whole[:-1], 5, 6][:40]
    monkeypatch.undo()
    assert token_ids(run(engine, ask("b", again, 5, ignore_eos=True))["b"]) == synthetic.greedy(again, 5)


def test_right_guesses_save_steps(new_engine: EngineFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [3, 4, *synthetic.greedy([3, 4], 33)]
    monkeypatch.setattr(PromptLookup, "guess", lambda self, text, limit: tuple(whole[len(text) :][: min(limit, 7)]))
    engine = new_engine(chunk_invariant=True)
    assert token_ids(run(engine, ask("a", [3, 4], 33, ignore_eos=True))["a"]) == whole[2:]
    assert (engine.num_guessed_tokens, engine.num_confirmed_tokens) == (28, 28)
    assert engine.num_steps == 5  # the prompt and its first token, then four times eight


def test_a_check_that_fails_confirms_nothing(new_engine: EngineFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = new_engine(chunk_invariant=True)
    engine.submit(ask("a", [3, 4], 33, ignore_eos=True))
    engine.step()
    monkeypatch.setattr(PromptLookup, "guess", lambda self, text, limit: (1, 2))
    monkeypatch.setattr(engine.runner, "run", lambda *_: np.full((3, synthetic.VOCAB), np.nan, np.float32))
    [delta] = engine.step()
    assert (delta.finish_reason, delta.error and delta.error.code) == (FinishReason.ERROR, "numerical_error")
    assert (engine.num_guessed_tokens, engine.num_confirmed_tokens) == (2, 0)


def test_a_run_of_guesses_that_fails_ends_its_answer_and_leaves_nothing(
    new_engine: EngineFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = new_engine(chunk_invariant=True)
    engine.submit(ask("a", [3, 4], 33, ignore_eos=True))
    engine.step()

    def fail(*_: object) -> None:
        raise RuntimeError("no memory")

    with monkeypatch.context() as broken:
        broken.setattr(PromptLookup, "guess", lambda self, text, limit: (1, 2))
        broken.setattr(engine.runner, "run", fail)
        [delta] = engine.step()
    assert (delta.finish_reason, delta.error and delta.error.code) == (FinishReason.ERROR, "engine_error")
    assert engine.num_guessed_tokens == 0
    assert all(slot.held == () for slot in engine.scheduler.slots)
    assert token_ids(run(engine, ask("b", [3, 4], 9, ignore_eos=True))["b"]) == synthetic.greedy([3, 4], 9)
