"""The first and the last that each bound of a body lets through, and that what lies beyond is refused by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from infrs.api.anthropic.request import MessagesRequest
from infrs.api.chat.request import ChatCompletionRequest
from infrs.api.common.fields import Body, parse_body
from infrs.api.completions.request import CompletionRequest
from infrs.api.embeddings.request import EmbeddingRequest
from infrs.api.responses.request import ResponsesRequest
from infrs.api.tokens.request import DetokenizeRequest
from infrs.errors import RequestError

USER = {"role": "user", "content": "hi"}
TEXT = {"type": "text", "text": "a"}
WHOLE: dict[type[Body], dict[str, Any]] = {
    ChatCompletionRequest: {"messages": [USER], "logprobs": True},
    CompletionRequest: {"prompt": "hi", "echo": True},
    ResponsesRequest: {"input": "hi"},
    MessagesRequest: {"messages": [USER], "max_tokens": 1 << 30},
    EmbeddingRequest: {"input": "hi"},
    DetokenizeRequest: {"tokens": []},
}
TINY, INT32 = math.ulp(0.0), (1 << 31) - 1

Value = Any  # a number, or the length of what is made of it
Case = tuple[str, Callable[[Value], dict[str, Any]], Value, Value]


def number(field: str, least: float, most: float) -> Case:
    return field, lambda value: {field: value}, least, most


def string(field: str, least: int | None, most: int | None) -> Case:
    return field, lambda length: {field: "x" * length}, least, most


def array(field: str, of: object, least: int | None, most: int) -> Case:
    return field, lambda length: {field: [of] * length}, least, most


def said(field: str, value: Callable[[int], Any], least: int | None, most: int | None, **fields: Any) -> Case:
    """A field of the first message."""
    return f"messages[0].{field}", lambda length: {"messages": [USER | fields | {field: value(length)}]}, least, most


def function(name: str) -> dict[str, Any]:
    return {"type": "function", "name": name, "function": {"name": name}}


def call(call_id: str) -> dict[str, Any]:
    return {"type": "function", "id": call_id, "function": {"name": "f", "arguments": ""}}


def without(part: dict[str, Any], field: str) -> dict[str, Any]:
    return {name: value for name, value in part.items() if name != field}


CHAT: list[Case] = [
    number("temperature", 0.0, 2.0),
    number("top_p", 0.0, 1.0),
    number("top_k", -1, INT32),
    number("min_p", 0.0, 1.0),
    number("typical_p", TINY, 1.0),
    number("presence_penalty", -2.0, 2.0),
    number("frequency_penalty", -2.0, 2.0),
    number("repetition_penalty", 0.01, 100.0),
    number("seed", -(1 << 63), (1 << 63) - 1),
    number("n", 1, 128),
    number("max_tokens", 1, INT32),
    number("max_completion_tokens", 1, INT32),
    number("min_tokens", 0, INT32),
    number("top_logprobs", 0, 20),
    ("logit_bias.7", lambda value: {"logit_bias": {"7": value}}, -100.0, 100.0),
    ("logit_bias", lambda length: {"logit_bias": dict.fromkeys(map(str, range(length)), 1)}, None, 1024),
    ("logit_bias", lambda length: {"logit_bias": {"1" * length: 1}}, 1, 10),
    ("stop_token_ids[0]", lambda value: {"stop_token_ids": [value]}, 0, INT32),
    array("stop_token_ids", 1, None, 64),
    array("stop", "a", None, 64),
    ("stop[0]", lambda length: {"stop": ["x" * length]}, 1, 1024),
    string("model", 1, None),
    string("user", None, 512),
    string("safety_identifier", None, 512),
    string("prompt_cache_key", None, 512),
    array("messages", USER, 1, 2048),
    said("content", lambda length: [TEXT] * length, 1, 1024),
    said("name", lambda length: "n" * length, 1, 64),
    said("tool_calls", lambda length: [call("c")] * length, None, 128, role="assistant"),
    (
        "messages[0].tool_calls[0].id",
        lambda length: {"messages": [USER | {"role": "assistant", "tool_calls": [call("x" * length)]}]},
        1,
        256,
    ),
    (
        "chat_template_kwargs.thinking_budget",
        lambda value: {"chat_template_kwargs": {"thinking_budget": value}},
        -1,
        INT32,
    ),
    (
        "chat_template_kwargs.date_string",
        lambda length: {"chat_template_kwargs": {"date_string": "x" * length}},
        None,
        64,
    ),
    (
        "chat_template_kwargs.model_identity",
        lambda length: {"chat_template_kwargs": {"model_identity": "x" * length}},
        None,
        4096,
    ),
    ("tools", lambda length: {"tools": [without(function(f"f{i}"), "name") for i in range(length)]}, None, 128),
    ("functions", lambda length: {"functions": [{"name": f"f{i}"} for i in range(length)]}, None, 128),
    ("functions[0].name", lambda length: {"functions": [{"name": "x" * length}]}, 1, 128),
    (
        "functions[0].description",
        lambda length: {"functions": [{"name": "f", "description": "x" * length}]},
        None,
        1 << 16,
    ),
    string("guided_regex", None, 1 << 14),
    string("guided_grammar", None, 1 << 14),
    string("grammar", None, 1 << 14),
    array("guided_choice", "a", None, 1024),
    ("guided_choice[0]", lambda length: {"guided_choice": ["x" * length]}, 1, 4096),
    (
        "response_format.json_schema.name",
        lambda length: {
            "response_format": {"type": "json_schema", "json_schema": {"name": "x" * length, "schema": {}}}
        },
        1,
        64,
    ),
    (
        "response_format.json_schema.description",
        lambda length: {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": {}, "description": "x" * length},
            }
        },
        None,
        4096,
    ),
]
COMPLETION: list[Case] = [
    number("max_tokens", 0, INT32),
    number("best_of", 1, 128),
    number("logprobs", 0, 5),
    array("prompt", "a", 1, 128),
    string("prompt", 1, None),
    ("suffix", lambda length: {"suffix": "x" * length, "echo": False}, None, 1 << 20),
]
RESPONSE: list[Case] = [
    number("temperature", 0.0, 2.0),
    number("top_p", 0.0, 1.0),
    number("presence_penalty", -2.0, 2.0),
    number("frequency_penalty", -2.0, 2.0),
    number("max_output_tokens", 1, INT32),
    number("max_tool_calls", 1, INT32),
    number("top_logprobs", 0, 20),
    string("instructions", None, 1 << 24),
    string("previous_response_id", None, 128),
    ("metadata", lambda length: {"metadata": dict.fromkeys(map(str, range(length)), "")}, None, 16),
    ("metadata.k", lambda length: {"metadata": {"k": "x" * length}}, None, 512),
    array("input", USER, 1, 2048),
    array("include", "message.output_text.logprobs", None, 16),
    ("input[0].id", lambda length: {"input": [USER | {"id": "x" * length}]}, 1, 256),
    (
        "input[0].content",
        lambda length: {"input": [USER | {"content": [{"type": "input_text", "text": "a"}] * length}]},
        1,
        1024,
    ),
    (
        "input[0].content[0].logprobs",
        lambda length: {
            "input": [USER | {"content": [{"type": "output_text", "text": "a", "logprobs": [0] * length}]}]
        },
        None,
        1 << 20,
    ),
    ("tools", lambda length: {"tools": [without(function(f"f{i}"), "function") for i in range(length)]}, None, 128),
    (
        "tool_choice.tools",
        lambda length: {
            "tools": [without(function("f"), "function")],
            "tool_choice": {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [without(function("f"), "function")] * length,
            },
        },
        1,
        128,
    ),
    (
        "text.format.description",
        lambda length: {
            "text": {"format": {"type": "json_schema", "name": "x", "schema": {}, "description": "x" * length}}
        },
        None,
        4096,
    ),
    *(
        (
            f"input[0].{field}",
            lambda length, field=field, part=part: {
                "input": [{"type": "reasoning", "summary": []} | {field: [{"type": part, "text": ""}] * length}]
            },
            None,
            1024,
        )
        for field, part in (("summary", "summary_text"), ("content", "reasoning_text"))
    ),
]
MESSAGE: list[Case] = [
    number("max_tokens", 1, INT32),
    number("temperature", 0.0, 1.0),
    number("top_p", 0.0, 1.0),
    number("top_k", 0, INT32),
    array("messages", USER, 1, 2048),
    said("content", lambda length: [TEXT] * length, 1, 1024),
    array("system", TEXT, None, 1024),
    array("stop_sequences", "a", None, 64),
    ("stop_sequences[0]", lambda length: {"stop_sequences": ["x" * length]}, 1, 1024),
    (
        "thinking.budget_tokens",
        lambda value: {"thinking": {"type": "enabled", "budget_tokens": value}},
        1024,
        (1 << 30) - 1,  # less than max_tokens
    ),
    ("tools", lambda length: {"tools": [{"name": f"f{i}", "input_schema": {}} for i in range(length)]}, None, 128),
    (
        "tools[0].description",
        lambda length: {"tools": [{"name": "f", "input_schema": {}, "description": "x" * length}]},
        None,
        1 << 16,
    ),
]
CASES = {
    ChatCompletionRequest: CHAT,
    CompletionRequest: COMPLETION,
    ResponsesRequest: RESPONSE,
    MessagesRequest: MESSAGE,
    EmbeddingRequest: [number("dimensions", 1, INT32), array("input", "a", 1, 2048)],
    DetokenizeRequest: [
        array("tokens", 0, None, 1 << 19),
        ("tokens[0]", lambda value: {"tokens": [value]}, 0, INT32),
    ],
}


def next_to(value: float, direction: int) -> float:
    return math.nextafter(value, math.inf * direction) if isinstance(value, float) else value + direction


@pytest.mark.parametrize(
    ("kind", "case"),
    [pytest.param(kind, case, id=f"{kind.__name__}-{case[0]}") for kind, cases in CASES.items() for case in cases],
)
def test_bounds(kind: type[Body], case: Case) -> None:
    param, fields, least, most = case
    for value, direction in ((least, -1), (most, 1)):
        if value is not None:
            whole = {"model": "m", **WHOLE[kind]}
            parse_body(kind, whole | fields(value))
            with pytest.raises(RequestError) as refused:
                parse_body(kind, whole | fields(next_to(value, direction)))
            assert refused.value.param == param
