"""Streamed text equals text without streaming, byte for byte, with the real engine on a synthetic graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fake_process import MODEL, FakeServer, fake_server
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

QUIET = {"access_log": False}  # no test reads it, and a full pipe would block the server
EXAMPLES = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def real() -> Iterator[FakeServer]:
    with fake_server(engine="synthetic", rows=4, max_queue=64, server=QUIET) as running:
        yield running


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


SAMPLING = {
    "temperature": st.sampled_from([0, 0.5, 1, 2]),
    "top_p": st.sampled_from([0.3, 0.9, 1]),
    "top_k": st.sampled_from([-1, 1, 7]),
    "min_p": st.sampled_from([0, 0.2]),
    "typical_p": st.sampled_from([0.5, 1]),
    "presence_penalty": st.sampled_from([-2, 0.5, 2]),
    "frequency_penalty": st.sampled_from([-1, 0.5, 2]),
    "repetition_penalty": st.sampled_from([0.8, 1.5]),
    "logit_bias": st.dictionaries(st.integers(0, 96).map(str), st.sampled_from([-100, -3, 4]), max_size=3),
    "n": st.integers(1, 5),
    "max_tokens": st.integers(1, 24),
    "min_tokens": st.just(1),
    "stop": st.lists(st.text("abcdet é😀", min_size=1, max_size=2), max_size=2),
    "stop_token_ids": st.lists(st.integers(1, 96), max_size=2),
    "ignore_eos": st.booleans(),
}


def streamed(events: list[Any], kind: str) -> tuple[list[dict[str, Any]], Any]:
    """Return the choices joined from the chunks of a stream, and its usage."""
    *chunks, usage, done = events
    assert done == "[DONE]"
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        (choice,) = chunk["choices"]
        joined = choices.setdefault(choice["index"], {"text": "", "logprobs": None, "finish_reason": None})
        assert joined["finish_reason"] is None, "a chunk after the last"
        joined["text"] += choice["delta"].get("content", "") if kind == "chat" else choice["text"]
        joined["finish_reason"] = choice["finish_reason"]
        for name, values in (choice["logprobs"] or {}).items():
            if values is not None:
                joined["logprobs"] = joined["logprobs"] or {}
                joined["logprobs"].setdefault(name, []).extend(values)
    return [choices[index] for index in sorted(choices)], usage["usage"]


def whole(body: Any, kind: str) -> tuple[list[dict[str, Any]], Any]:
    choices = []
    for index, choice in enumerate(body["choices"]):
        assert choice["index"] == index
        text = choice["message"]["content"] if kind == "chat" else choice["text"]
        logprobs = {name: value for name, value in (choice["logprobs"] or {}).items() if value is not None}
        choices.append({"text": text, "logprobs": logprobs or None, "finish_reason": choice["finish_reason"]})
    return choices, body["usage"]


def both_ways(server: FakeServer, kind: str, fields: dict[str, Any], continuous: bool) -> list[dict[str, Any]]:
    path = "/v1/chat/completions" if kind == "chat" else "/v1/completions"
    fields = {"model": MODEL, "seed": 3, **fields}
    answer = server.post(path, **fields)
    assert answer.status == 200, answer.body
    options = {"include_usage": True, "continuous_usage_stats": continuous}
    stream = server.post(path, **fields, stream=True, stream_options=options)
    expected, usage = whole(answer.json, kind)
    choices, streamed_usage = streamed(stream.events, kind)
    for choice in (*expected, *choices):  # other tests distinguish no entries from no logprobs
        if choice["logprobs"] is not None and not any(choice["logprobs"].values()):
            choice["logprobs"] = None
    assert choices == expected
    for counts in (usage, streamed_usage):
        del counts["prompt_tokens_details"]  # the second one finds the first one's prompt
    assert streamed_usage == usage
    return expected


@example(  # the stop token ends an incomplete character, and has no log-probability
    sampling={"stop_token_ids": [34], "logit_bias": {"58": 4}},
    logprobs={"logprobs": True},
    content="",
    flags=(False, False),
)
@EXAMPLES
@given(
    sampling=optional(**SAMPLING),
    logprobs=optional(logprobs=st.booleans(), top_logprobs=st.integers(0, 3)),
    content=st.text("abcdefgh é😀", max_size=8),
    flags=st.tuples(st.booleans(), st.booleans()),
)
def test_a_streamed_chat_equals_the_whole(
    real: FakeServer,
    sampling: dict[str, Any],
    logprobs: dict[str, Any],
    content: str,
    flags: tuple[bool, bool],
) -> None:
    continued, continuous = flags
    if logprobs.get("top_logprobs"):
        logprobs["logprobs"] = True
    fields = {**sampling, **logprobs, "messages": [{"role": "user", "content": content}]}
    if continued:
        fields["messages"] = [*fields["messages"], {"role": "assistant", "content": content}]
        fields["continue_final_message"] = True
    for choice in both_ways(real, "chat", fields, continuous):
        if choice["logprobs"] is not None:
            pieces = b"".join(bytes(entry["bytes"] or []) for entry in choice["logprobs"]["content"])
            text = choice["text"]
            stops = "stop" in sampling and choice["finish_reason"] == "stop"
            shown = pieces.decode(errors="replace")
            assert shown.startswith(text.rstrip("\ufffd")) if stops else shown == text


@EXAMPLES
@given(
    sampling=optional(**SAMPLING),
    scores=optional(logprobs=st.integers(0, 3), echo=st.booleans()),
    prompt=st.one_of(
        st.text("abcdefgh é😀", min_size=1, max_size=8),
        st.lists(st.text("abcdefgh é😀", min_size=1, max_size=8), min_size=1, max_size=3),
        st.lists(st.lists(st.integers(0, 96), min_size=1, max_size=12), min_size=1, max_size=3),
    ),
    continuous=st.booleans(),
)
def test_streamed_completions_equal_the_whole(
    real: FakeServer, sampling: dict[str, Any], scores: dict[str, Any], prompt: Any, continuous: bool
) -> None:
    choices = both_ways(real, "text", {**sampling, **scores, "prompt": prompt}, continuous)
    num_prompts = len(prompt) if isinstance(prompt, list) else 1
    assert len(choices) == num_prompts * sampling.get("n", 1)
    if scores.get("echo") and isinstance(prompt, str):
        assert all(choice["text"].startswith(prompt) for choice in choices)
    for choice in choices:
        if choice["logprobs"] is not None:
            offsets = choice["logprobs"]["text_offset"]
            assert offsets == sorted(offsets)
            assert {len(values) for values in choice["logprobs"].values()} == {len(offsets)}
