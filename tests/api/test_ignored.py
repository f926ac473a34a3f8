"""The header `x-infrs-ignored`: the names of the parts of a request that change nothing."""

from __future__ import annotations

from typing import Any

import pytest

from infrs.api.anthropic.request import MessagesRequest
from infrs.api.chat.request import ChatCompletionRequest
from infrs.api.common.fields import EMPTY, Body, parse_body
from infrs.api.common.ignored import HEADER, header, ignored
from infrs.api.common.other_fields import Hints
from infrs.api.completions.request import CompletionRequest
from infrs.api.embeddings.request import EmbeddingRequest
from infrs.api.responses.request import ResponsesRequest
from infrs.errors import RequestError

CACHED = {"cache_control": {"type": "ephemeral"}}
USER = {"role": "user", "content": "a"}
FUNCTION = {"name": "f", "parameters": {}}
BODIES: dict[type[Body], dict[str, Any]] = {
    ChatCompletionRequest: {"messages": [USER]},
    CompletionRequest: {"prompt": "a"},
    ResponsesRequest: {"input": "a"},
    MessagesRequest: {"messages": [USER], "max_tokens": 9},
    EmbeddingRequest: {"input": "a"},
}
OPAQUE = {"type": "text", "text": "a", **CACHED}


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("name", Hints.model_fields)
def test_each_hint_is_empty_or_named_on_each_route(kind: type[Body], name: str) -> None:
    accepted = 0
    for value in (*EMPTY, True, 1, "x", "low", "flex", {"a": "b"}, [{"a": "b"}], "auto", {"edits": []}):
        try:
            body = parse_body(kind, {"model": "m", **BODIES[kind], name: value})
        except RequestError:
            continue  # of another type
        accepted += 1
        says_nothing = value in EMPTY or (name, value) == ("service_tier", "auto")
        is_honoured = kind is ResponsesRequest and name in ("store", "metadata")  # kept, or in the response
        assert ignored(body) == ([] if says_nothing or is_honoured else [name])
    assert accepted


@pytest.mark.parametrize(
    ("kind", "fields", "names"),
    [
        (
            ChatCompletionRequest,
            {
                "messages": [USER | {"content": [OPAQUE, OPAQUE]}, USER | CACHED],
                "tools": [{"type": "function", "function": FUNCTION | CACHED, **CACHED}],
                "stream": True,
                "stream_options": {"include_obfuscation": True},
            },
            [
                "tools[].function.cache_control",
                "tools[].cache_control",
                "messages[].content[].cache_control",
                "messages[].cache_control",
                "stream_options.include_obfuscation",
            ],
        ),
        (
            ResponsesRequest,
            {
                "input": [
                    {"role": "assistant", "content": "a", "phase": "final_answer"},
                    {"type": "reasoning", "summary": [], "encrypted_content": "e"},
                ],
                "text": {"verbosity": "low"},
                "reasoning": {"summary": "auto"},
            },
            ["input[].phase", "input[].encrypted_content", "text.verbosity", "reasoning.summary"],
        ),
        (
            MessagesRequest,
            {
                "messages": [USER | {"content": [OPAQUE]}],
                "system": [OPAQUE],
                "context_management": {"edits": [{"type": "clear_thinking_20251015"}]},
                "thinking": {"type": "adaptive", "display": "omitted"},
                "speed": "fast",
            },
            [
                "messages[].content[].cache_control",
                "system[].cache_control",
                "thinking.display",
                "speed",
                "context_management",
            ],
        ),
    ],
)
def test_hints_inside_a_body_are_named_once_without_indices(
    kind: type[Body], fields: dict[str, Any], names: list[str]
) -> None:
    assert sorted(ignored(parse_body(kind, {"model": "m", **BODIES[kind], **fields}))) == sorted(names)


def test_the_header_is_short_and_absent_without_names() -> None:
    assert header([]) == {}
    assert header(["user", "metadata"]) == {HEADER: "user, metadata"}
    long = header([f"name{i}" for i in range(1000)])[HEADER]
    assert 1000 < len(long) <= 1024
    assert long.startswith("name0, name1, ")
    assert long.endswith(", ...")
    assert long.removesuffix(", ...").rpartition(", ")[2] in {f"name{i}" for i in range(1000)}


@pytest.mark.parametrize(
    "fields",
    [
        *({name: ""} for name in ("stop", "guided_json", "guided_regex", "guided_grammar", "grammar", "chat_template")),
        *({name: []} for name in ("stop", "guided_choice", "tools", "functions", "transforms", "plugins", "models")),
        {"guided_choice": None, "chat_template_kwargs": {}, "reasoning_effort": "", "parallel_tool_calls": True},
        {"modalities": ["text"], "add_special_tokens": False, "logprobs": False, "stream_options": {}, "echo": False},
        {"stream_options": {"include_usage": False}, "usage": {"include": True}, "audio": {}, "top_logprobs": 0},
    ],
    ids=str,
)
def test_a_chat_accepts_empty_values(fields: dict[str, Any]) -> None:
    body = parse_body(ChatCompletionRequest, {"model": "m", "messages": [USER], **fields})
    assert body.constraint is None
    assert not body.stop


@pytest.mark.parametrize("fields", [{"suffix": ""}, {"logprobs": False}, {"logprobs": None}, {"grammar": ""}], ids=str)
def test_a_completion_accepts_empty_values(fields: dict[str, Any]) -> None:
    body = parse_body(CompletionRequest, {"model": "m", "prompt": "a", "add_special_tokens": True, **fields})
    assert (body.suffix, body.logprobs, body.constraint) == (None, None, None)
