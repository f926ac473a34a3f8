"""A program and a server with the same model give the same answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fake_classifier import CLASSIFIER_ID
from fake_encoder import EMBEDDING_ID
from fake_process import MODEL, FakeServer, fake_server
from local_model import LENGTH, QUEUE, ROWS, resolve

from infrs.llm import LLM, RequestOutput, SamplingParams, async_llm

USER = {"role": "user", "content": "hi"}
SCHEMA = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
TOOL = {"type": "function", "function": {"name": "find", "parameters": SCHEMA}}
COMMON: list[dict[str, Any]] = [
    {"seed": 1},
    {"seed": 2, "temperature": 0.5, "top_p": 0.9, "top_k": 20, "min_p": 0.01},
    {"temperature": 0},
    {"seed": 3, "n": 3},
    {"seed": 4, "stop": ["e", " t"]},
    {"seed": 5, "presence_penalty": 1.0, "frequency_penalty": 0.5, "repetition_penalty": 1.2},
    {"seed": 6, "min_tokens": 8, "stop_token_ids": [5]},
    {"seed": 7, "logit_bias": {"9": 5.0}, "ignore_eos": True},
    {"seed": 8, "guided_regex": "[ab]{3,9}"},
    {"seed": 9, "guided_choice": ["yes", "no"]},
    {"seed": 10, "typical_p": 0.8},
]
CHAT: list[dict[str, Any]] = [
    *COMMON,
    {"seed": 11, "logprobs": True, "top_logprobs": 3},
    {"seed": 12, "tools": [TOOL]},
    {"seed": 13, "tools": [TOOL], "tool_choice": "required"},
    {"seed": 14, "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}},
    {"seed": 15, "messages": [USER, {"role": "assistant", "content": "It"}], "continue_final_message": True},
]
COMPLETION: list[dict[str, Any]] = [
    *COMMON,
    {"seed": 11, "logprobs": 2},
    {"seed": 12, "suffix": "end"},
    {"seed": 13, "echo": True},
]


def same(body: dict[str, Any]) -> dict[str, Any]:
    """Return a body without what differs between two equal requests."""
    body = {name: value for name, value in body.items() if name not in ("id", "created")}
    body["usage"].pop("prompt_tokens_details")  # what the prefix cache had
    for choice in body["choices"]:
        for call in choice.get("message", {}).get("tool_calls") or ():
            call.pop("id")
    return body


def check(ours: RequestOutput, body: dict[str, Any]) -> None:
    assert same(ours.body) == same(body)
    for output, choice in zip(ours.outputs, body["choices"], strict=True):
        shown = choice.get("message", choice)
        assert output.text == (shown.get("content") or shown.get("text") or "")
        assert output.finish_reason == choice["finish_reason"]


@pytest.fixture(scope="module", autouse=True)
def models() -> Iterator[None]:
    """Let every model be a synthetic one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(async_llm, "resolve", resolve)
        yield


@pytest.fixture(scope="module")
def llm(models: None) -> Iterator[LLM]:
    with LLM(MODEL) as made:
        yield made


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    """A server with the same models."""
    options: dict[str, Any] = {"engine": "synthetic", "rows": ROWS, "max_queue": QUEUE, "capacity": LENGTH}
    with fake_server(server={"access_log": False}, embedding="beside", classifier="beside", **options) as running:
        yield running


@pytest.mark.parametrize("fields", CHAT, ids=str)
def test_chats_are_equal(llm: LLM, server: FakeServer, fields: dict[str, Any]) -> None:
    asked = {"messages": [USER], "max_tokens": 24, **fields}
    [ours] = llm.chat(**asked)
    check(ours, server.post("/v1/chat/completions", model=MODEL, **asked).json)
    chunks = [*llm.stream_chat(**asked)]
    for output in ours.outputs:
        mine = [chunk for chunk in chunks if chunk.index == output.index]
        assert "".join(chunk.text for chunk in mine) == output.text
        assert mine[-1].finish_reason == output.finish_reason


@pytest.mark.parametrize("fields", COMPLETION, ids=str)
def test_completions_are_equal(llm: LLM, server: FakeServer, fields: dict[str, Any]) -> None:
    asked = {"max_tokens": 24, **fields}
    [ours] = llm.generate("hi", **asked)
    check(ours, server.post("/v1/completions", model=MODEL, prompt="hi", **asked).json)
    chunks = [*llm.stream("hi", **asked)]
    for output in ours.outputs:
        assert "".join(chunk.text for chunk in chunks if chunk.index == output.index) == output.text


def test_many_prompts_are_answered_in_order_as_each_alone(llm: LLM, server: FakeServer) -> None:
    """They are more than the model runs and queues."""
    prompts = [f"prompt {number}" for number in range(20)]
    params = SamplingParams(seed=1, max_tokens=8, logprobs=1)
    for prompt, ours in zip(prompts, llm.generate(prompts, params), strict=True):
        asked = {"prompt": prompt, "seed": 1, "max_tokens": 8, "logprobs": 1}
        check(ours, server.post("/v1/completions", model=MODEL, **asked).json)


def test_token_ids_are_those_of_prompt_and_answer(llm: LLM, server: FakeServer) -> None:
    [ours] = llm.generate("hi", SamplingParams(seed=1, max_tokens=8))
    assert [*ours.prompt_token_ids] == server.post("/tokenize", model=MODEL, prompt="hi").json["tokens"]
    assert len(ours.outputs[0].token_ids) == ours.usage["completion_tokens"]
    [again] = llm.generate(ours.prompt_token_ids, SamplingParams(seed=1, max_tokens=8))
    assert again.outputs == ours.outputs


def test_vectors_are_equal(server: FakeServer) -> None:
    texts = ["hi", "Köln"]
    with LLM(EMBEDDING_ID) as llm:
        for dimensions in (None, 2):
            sent = {"model": EMBEDDING_ID, "input": texts, "dimensions": dimensions}
            theirs = [entry["embedding"] for entry in server.post("/v1/embeddings", **sent).json["data"]]
            assert np.array_equal(llm.embed(texts, dimensions=dimensions), np.array(theirs, dtype=np.float32))


@pytest.mark.parametrize("fields", [{}, {"use_activation": False}, {"truncate_prompt_tokens": -1}], ids=str)
def test_scores_are_equal(server: FakeServer, fields: dict[str, Any]) -> None:
    sent = {"model": CLASSIFIER_ID, **fields}
    with LLM(CLASSIFIER_ID) as llm:
        for first, second in (("abc", ["xyz", "cab"]), (("abc", "x"), ("cab", "Köln")), ("abc", "cab")):
            pairs = {"text_1": [first] if isinstance(first, str) else first, "text_2": second}
            theirs = [entry["score"] for entry in server.post("/v1/score", **sent, **pairs).json["data"]]
            assert llm.score(first, second, **fields) == theirs
        texts = ["cab", "xyz"]
        data = server.post("/classify", **sent, input=texts).json["data"]
        found = llm.classify(texts, **fields)
        assert [(each.label, [*each.probs]) for each in found] == [(each["label"], each["probs"]) for each in data]
        assert llm.classify("cab", **fields) == found[:1]
