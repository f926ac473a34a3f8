"""Requests of an evaluation harness to `/v1/completions` give the scores of the graph's formula."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_process import FakeServer, fake_server

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))
from synthetic import greedy, next_logits

CONTEXT, CONTINUATION = [5, 9, 33], [70, 2]


@pytest.fixture(scope="module")
def real() -> Iterator[FakeServer]:
    with fake_server(engine="synthetic", rows=4, max_queue=64, server={"access_log": False}) as running:
        yield running


def logprob(tokens: list[int], token_id: int) -> float:
    scores = next_logits(tokens).astype(np.float64)
    return float(scores[token_id] - np.log(np.exp(scores).sum()))


@pytest.mark.parametrize("max_tokens", [0, 1])
def test_loglikelihoods_are_those_of_the_graph(real: FakeServer, max_tokens: int) -> None:
    """As lm-eval reads it: the scores of the continuation, and whether it is what greedy would say."""
    best = CONTEXT + greedy(CONTEXT, 2)
    body = real.complete(
        [CONTEXT + CONTINUATION, best], echo=True, logprobs=1, max_tokens=max_tokens, temperature=0, seed=1234
    ).json
    for choice, tokens in zip(body["choices"], [CONTEXT + CONTINUATION, best], strict=True):
        logprobs = choice["logprobs"]
        assert len(logprobs["token_logprobs"]) == len(tokens) + max_tokens
        assert logprobs["token_logprobs"][0] is logprobs["top_logprobs"][0] is None
        end = len(tokens)
        scores = logprobs["token_logprobs"][len(CONTEXT) : end]
        expected = [logprob(tokens[:i], tokens[i]) for i in range(len(CONTEXT), end)]
        assert scores == pytest.approx(expected, abs=1e-5)
        tops = logprobs["top_logprobs"][len(CONTEXT) : end]
        is_greedy = all(score == max(top.values()) for score, top in zip(scores, tops, strict=True))
        assert is_greedy == (tokens is best)


def test_a_loglikelihood_alone_is_that_of_a_batch(real: FakeServer) -> None:
    """As lm-eval 0.4.13 sends each request: one prompt of token ids in a list."""
    tokens = CONTEXT + CONTINUATION
    payload = {"temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": True}
    together = real.complete([tokens, CONTEXT], **payload).json["choices"]
    for index, prompt in enumerate([tokens, CONTEXT]):
        (choice,) = real.complete([prompt], **payload).json["choices"]
        assert choice["logprobs"] == together[index]["logprobs"]


def test_a_generation_ends_at_its_stop_string(real: FakeServer) -> None:
    """As lm-eval 0.4.13 sends it: the stop strings of the task, and after them the text of the end token."""
    whole = real.complete([CONTEXT], max_tokens=24, temperature=0, seed=1234).json["choices"][0]["text"]
    until = whole[3:5]
    (choice,) = real.complete([CONTEXT], max_tokens=24, temperature=0, seed=1234, stop=[until, "\n\n", "</s>"]).json[
        "choices"
    ]
    assert len(whole) > 5
    assert (choice["text"], choice["finish_reason"]) == (whole[: whole.index(until)], "stop")


def test_a_generated_token_that_ends_the_answer_is_scored(real: FakeServer) -> None:
    """Evaluators drop the last score, which belongs to the one token that they must request."""
    prompt = next([1, i, j] for i in range(97) for j in range(97) if greedy([1, i, j], 1) == [0])
    (choice,) = real.complete(prompt, echo=True, logprobs=0, max_tokens=1, temperature=0).json["choices"]
    assert choice["logprobs"]["tokens"][-1] == "</s>"
    assert len(choice["logprobs"]["token_logprobs"]) == len(prompt) + 1
    (without,) = real.complete(prompt, max_tokens=1, temperature=0).json["choices"]
    assert (without["text"], without["finish_reason"]) == ("", "stop")


def test_a_whole_text_is_scored(real: FakeServer) -> None:
    text = "the quick fox, é 😀"
    (choice,) = real.complete(text, echo=True, logprobs=0, max_tokens=0).json["choices"]
    assert choice["text"] == text
    assert choice["logprobs"]["tokens"][0] == "</s>"  # this tokenizer begins texts with it; `text` shows what was sent
    assert choice["logprobs"]["text_offset"][:2] == [0, 0]
    logprobs = choice["logprobs"]
    pieces = [
        bytes.fromhex(token.removeprefix("bytes:").replace("\\x", "")) if token.startswith("bytes:") else token.encode()
        for token in logprobs["tokens"][1:]
    ]
    assert b"".join(pieces).decode() == text
    assert all(math.isfinite(score) and score < 0 for score in logprobs["token_logprobs"][1:])


def test_penalties_and_biases_move_tokens_but_not_scores(real: FakeServer) -> None:
    """Log-probabilities are those of the model, before penalties and biases."""
    plain = real.complete(CONTEXT, logprobs=1, max_tokens=1, temperature=0).json["choices"][0]
    (best,) = greedy(CONTEXT, 1)
    moved = real.complete(CONTEXT, logprobs=1, max_tokens=1, temperature=0, logit_bias={str(best): -100}).json[
        "choices"
    ][0]
    assert plain["logprobs"]["token_logprobs"] == pytest.approx([logprob(CONTEXT, best)], abs=1e-5)
    assert moved["text"] != plain["text"]
    assert plain["logprobs"]["top_logprobs"][0].items() <= moved["logprobs"]["top_logprobs"][0].items()
