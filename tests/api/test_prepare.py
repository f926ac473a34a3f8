"""`prepare` of each API, called without a server: the engine's request, the errors and the body of an answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from fake_server import MANIFEST, MODEL_ID, FakeEngine, byte_tokenizer, served

from infrs.api.anthropic.prepare import count_tokens
from infrs.api.anthropic.prepare import prepare as prepare_message
from infrs.api.anthropic.request import CountTokensRequest, MessagesRequest
from infrs.api.chat.convert import to_conversation
from infrs.api.chat.prepare import prepare as prepare_chat
from infrs.api.chat.prompt import template_variables
from infrs.api.chat.request import parse_chat_request
from infrs.api.common.fields import parse_body
from infrs.api.completions.prepare import prepare as prepare_completion
from infrs.api.completions.request import parse_completion_request
from infrs.api.output.prepared import Prepared
from infrs.api.responses.history import open_conversation
from infrs.api.responses.prepare import prepare as prepare_response
from infrs.api.responses.request import parse_responses_request
from infrs.api.responses.store import ResponseStore
from infrs.api.tokens.request import ApplyTemplateRequest, DetokenizeRequest, parse_tokenize_request
from infrs.api.tokens.tokenize import apply_template, detokenize, tokenize
from infrs.core import Delta, FinishReason, Request, RequestContext, Usage
from infrs.errors import RequestError
from infrs.models.loaded import LoadedModel
from infrs.text.chat.template import SimpleFormat
from infrs.text.reasoning.tags import THINK

MODEL = served(FakeEngine(2, 2, 512, 0), byte_tokenizer([bytes([byte]) for byte in range(256)]), MANIFEST)
PLAIN = replace(MODEL, chat_format=SimpleFormat())  # a chat format without variables
STORE = ResponseStore(4, 1 << 20)
TENANT = "t"
CONTEXT = RequestContext.start("r", TENANT, 60)

USER = {"role": "user", "content": "hi"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
STRICT = {"name": "o", "schema": SCHEMA, "strict": True}
CITY = {"name": "weather", "description": "Returns the weather.", "parameters": SCHEMA}
FUNCTION_TOOL = {"type": "function", "function": CITY}
RESPONSE_TOOL = CITY | {"type": "function"}
CITY_TOOL = {"name": "weather", "description": "Returns the weather.", "input_schema": SCHEMA}


def chat(model: LoadedModel = MODEL, **fields: Any) -> Prepared:
    body = parse_chat_request({"model": MODEL_ID, "messages": [USER], "max_tokens": 5} | fields)
    return prepare_chat(model, body, CONTEXT)


def message(model: LoadedModel = MODEL, **fields: Any) -> Prepared:
    body = parse_body(MessagesRequest, {"model": MODEL_ID, "messages": [USER], "max_tokens": 5} | fields)
    return prepare_message(model, body, CONTEXT)


def response(model: LoadedModel = MODEL, **fields: Any) -> Prepared:
    body = parse_responses_request({"model": MODEL_ID, "input": [USER], "max_output_tokens": 5} | fields)
    return prepare_response(model, open_conversation(body, STORE, TENANT, 1 << 20), CONTEXT)


def completion(model: LoadedModel = MODEL, **fields: Any) -> Prepared:
    body = parse_completion_request({"model": MODEL_ID, "prompt": "hi", "max_tokens": 5} | fields)
    return prepare_completion(model, body, CONTEXT)


def without_id(prepared: Prepared) -> Request:
    [request] = prepared.requests
    return replace(request, request_id="")


@pytest.mark.parametrize(
    ("as_chat", "as_message", "as_response"),
    [
        ({}, {}, {}),
        (
            {"messages": [{"role": "system", "content": "Be brief."}, USER]},
            {"system": "Be brief."},
            {"instructions": "Be brief."},
        ),
        ({"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "top_p": 0.9}),
        ({"tools": [FUNCTION_TOOL]}, {"tools": [CITY_TOOL]}, {"tools": [RESPONSE_TOOL]}),
        (
            {"tools": [FUNCTION_TOOL], "tool_choice": "required"},
            {"tools": [CITY_TOOL], "tool_choice": {"type": "any"}},
            {"tools": [RESPONSE_TOOL], "tool_choice": "required"},
        ),
        (
            {
                "tools": [FUNCTION_TOOL],
                "tool_choice": {"type": "function", "function": {"name": "weather"}},
            },
            {"tools": [CITY_TOOL], "tool_choice": {"type": "tool", "name": "weather"}},
            {"tools": [RESPONSE_TOOL], "tool_choice": {"type": "function", "name": "weather"}},
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": STRICT}},
            {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
            {"text": {"format": {"type": "json_schema", **STRICT}}},
        ),
        (
            {
                "messages": [
                    USER,
                    {
                        "role": "assistant",
                        "content": "Let me see.",
                        "tool_calls": [
                            {
                                "id": "c",
                                "type": "function",
                                "function": {"name": "weather", "arguments": '{"city": "Ulm"}'},
                            }
                        ],
                    },
                    {"role": "tool", "tool_call_id": "c", "content": "sunny"},
                ]
            },
            {
                "messages": [
                    USER,
                    {
                        "role": "assistant",
                        "content": [
                            {"type": "text", "text": "Let me see."},
                            {"type": "tool_use", "id": "c", "name": "weather", "input": {"city": "Ulm"}},
                        ],
                    },
                    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "sunny"}]},
                ]
            },
            {
                "input": [
                    USER,
                    {"role": "assistant", "content": "Let me see."},
                    {"type": "function_call", "call_id": "c", "name": "weather", "arguments": '{"city": "Ulm"}'},
                    {"type": "function_call_output", "call_id": "c", "output": "sunny"},
                ]
            },
        ),
    ],
    ids=["plain", "system", "sampling", "tools", "required call", "named tool", "schema", "result of a call"],
)  # fmt: skip
def test_one_conversation_in_three_apis_makes_one_engine_request(
    as_chat: dict[str, Any], as_message: dict[str, Any], as_response: dict[str, Any]
) -> None:
    request = without_id(chat(**as_chat))
    assert without_id(message(**as_message)) == request
    assert without_id(response(**as_response)) == request
    assert (request.max_tokens, request.tenant, request.stop) == (5, TENANT, ("\nuser:",))


@pytest.mark.parametrize("prepare", [chat, message, response, completion])
@pytest.mark.parametrize("stream", [None, False, True])
def test_stream_is_what_the_client_asks_for(prepare: Callable[..., Prepared], stream: bool | None) -> None:
    assert prepare(stream=stream).stream is bool(stream)


def test_each_prompt_of_a_completion_is_an_engine_request() -> None:
    prepared = completion(prompt=["a", "bc"], n=2, logprobs=3)
    assert [bytes(request.prompt_ids) for request in prepared.requests] == [b"a", b"bc"]
    assert {(request.num_choices, request.num_logprobs, request.tenant) for request in prepared.requests} == {
        (2, 3, TENANT)
    }
    [request] = completion(best_of=3, max_tokens=None).requests
    assert (request.num_choices, request.num_logprobs, request.max_tokens) == (3, 0, 16)


@pytest.mark.parametrize(
    ("prepare", "text_of"),
    [
        (chat, lambda body: body["choices"][0]["message"]["content"]),
        (message, lambda body: body["content"][0]["text"]),
        (response, lambda body: body["output"][0]["content"][0]["text"]),
        (completion, lambda body: body["choices"][0]["text"]),
    ],
    ids=["chat", "message", "response", "completion"],
)
def test_the_presenter_formats_the_deltas_of_its_requests(
    prepare: Callable[..., Prepared], text_of: Callable[[Any], str]
) -> None:
    prepared = prepare()
    [request] = prepared.requests
    deltas = [
        Delta(request.request_id, "Hel", (72,), Usage(2, 1)),
        Delta(request.request_id, "lo", (73,), Usage(2, 2), FinishReason.STOP),
    ]
    body = json.loads(prepared.presenter.whole(deltas))
    assert text_of(body) == "Hello"
    assert prepared.presenter.finished
    assert request.request_id.startswith(body["id"])


LONG = "x" * 600
BAD = {"type": "object", "properties": {"a": {"pattern": "("}}}


@pytest.mark.parametrize(
    ("prepare", "fields", "param"),
    [
        (chat, {"messages": [{"role": "user", "content": LONG}]}, "messages"),
        (message, {"messages": [{"role": "user", "content": LONG}]}, "messages"),
        (response, {"input": LONG}, "input"),
        (completion, {"prompt": LONG}, "prompt"),
        (chat, {"response_format": {"type": "json_schema", "json_schema": {"name": "o", "schema": BAD}}},
         "response_format"),
        (message, {"output_config": {"format": {"type": "json_schema", "schema": BAD}}}, "output_config.format"),
        (response, {"text": {"format": {"type": "json_schema", "name": "o", "schema": BAD}}}, "text.format"),
        (completion, {"json_schema": BAD}, "json_schema"),
        (chat, {"tools": [{"type": "function", "function": CITY | {"parameters": BAD, "strict": True}}]}, "tools"),
        (message, {"tools": [CITY_TOOL | {"input_schema": BAD, "strict": True}]}, "tools"),
        (response, {"tools": [CITY | {"type": "function", "parameters": BAD, "strict": True}]}, "tools"),
        (chat, {"chat_template_kwargs": {"date_string": "x"}}, "chat_template_kwargs.date_string"),
        (response, {"input": [{"type": "reasoning", "summary": []}]}, "input"),
        (completion, {"prompt": [[256]]}, "prompt"),
        (completion, {"suffix": "x"}, "suffix"),
        (completion, {"prompt": ["a"] * 5}, "prompt"),
    ],
)  # fmt: skip
def test_an_error_names_the_field_of_its_api(
    prepare: Callable[..., Prepared], fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(RequestError) as refused:
        prepare(**fields)
    assert refused.value.param == param


CACHED = {"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "scope": "global"}}
BUDGET = {"type": "enabled", "budget_tokens": 1024}


@pytest.mark.parametrize("thinks", [False, True])
@pytest.mark.parametrize(
    ("prepare", "fields", "names"),
    [
        (chat, {"user": "u", "metadata": {"a": {}}, "store": False}, ["user", "metadata"]),
        (chat, {"messages": [{"role": "user", "content": [CACHED, CACHED]}]}, ["messages[].content[].cache_control"]),
        (chat, {"reasoning_effort": "low"}, ["reasoning_effort"]),
        (response, {"reasoning": {"effort": "low"}}, ["reasoning.effort"]),
        (response, {"truncation": "auto", "metadata": {"a": "b"}, "include": ["reasoning.encrypted_content"]},
         ["truncation"]),
        (response, {"truncation": "disabled", "service_tier": "auto"}, []),
        (response, {"tools": [CITY | {"type": "function"}, {"type": "web_search"}]}, ["tools[web_search]"]),
        (chat, {"reasoning": {"effort": "low"}, "thinking_budget": 9}, ["reasoning", "thinking_budget"]),
        (chat, {"enable_thinking": True}, ["enable_thinking"]),
        (chat, {"tools": [FUNCTION_TOOL, {"type": "web_search"}]}, ["tools[web_search]"]),
        (message, {"tools": [CITY_TOOL, {"type": "bash_20250124", "name": "b"}]}, ["tools[bash_20250124]"]),
        (message, {"output_config": {"effort": "low"}}, ["output_config.effort"]),
        (message, {"thinking": {"type": "adaptive"}}, ["thinking"]),
        (completion, {"user": "u", "priority": 0, "cache_salt": ""}, ["user"]),
    ],
)  # fmt: skip
def test_hints_of_a_request_are_named(
    prepare: Callable[..., Prepared], fields: dict[str, Any], names: list[str], thinks: bool
) -> None:
    assert prepare(replace(PLAIN, reasoning=THINK if thinks else None), **fields).ignored == names


@pytest.mark.parametrize(("thinks", "name"), [(False, "thinking"), (True, "thinking.budget_tokens")])
def test_a_budget_without_a_template_for_it_is_named(thinks: bool, name: str) -> None:
    assert message(replace(PLAIN, reasoning=THINK if thinks else None), thinking=BUDGET, max_tokens=2000).ignored == [
        name
    ]


@pytest.mark.parametrize(
    ("variables", "fields", "expected"),
    [
        ({"enable_thinking"}, {"enable_thinking": True}, {"enable_thinking": True}),
        ({"enable_thinking"}, {"thinking": {"type": "disabled"}}, {"enable_thinking": False}),
        ({"thinking"}, {"reasoning": {"enabled": False}}, {"thinking": False}),
        ({"thinking"}, {"reasoning_effort": "high"}, {}),
        ({"enable_thinking", "reasoning_effort"}, {"reasoning": {"effort": "low"}}, {"reasoning_effort": "low"}),
        ({"reasoning_effort"}, {"enable_thinking": False}, {"reasoning_effort": "none"}),
        ({"enable_thinking", "thinking_budget"}, {"thinking": {"type": "enabled", "budget_tokens": 99}},
         {"enable_thinking": True, "thinking_budget": 99}),
        ({"enable_thinking"}, {"enable_thinking": True, "chat_template_kwargs": {"enable_thinking": False}},
         {"enable_thinking": False}),
    ],
)  # fmt: skip
def test_each_switch_of_reasoning_sets_the_variable_that_the_template_reads(
    variables: set[str], fields: dict[str, Any], expected: dict[str, Any]
) -> None:
    chat_format = SimpleNamespace(variables=frozenset(variables))
    model = replace(MODEL, chat_format=chat_format, reasoning=THINK)  # type: ignore[arg-type]
    body = parse_chat_request({"model": MODEL_ID, "messages": [USER]} | fields)
    assert template_variables(model, to_conversation(body)) == expected


@pytest.mark.parametrize("name", ["enable_thinking", "thinking"])
def test_a_switch_of_thinking_is_a_hint_for_a_model_that_does_not_think(name: str) -> None:
    fields = {"chat_template_kwargs": {name: True}}
    assert chat(PLAIN, **fields).ignored == [f"chat_template_kwargs.{name}"]
    with pytest.raises(RequestError, match=f"knows no {name}"):
        chat(replace(PLAIN, reasoning=THINK), **fields)


def test_a_response_is_stored_when_it_ends_and_continued_by_its_id() -> None:
    prepared = response()
    [request] = prepared.requests
    prepared.presenter.whole([Delta(request.request_id, "Hello", (72,), Usage(2, 1), FinishReason.STOP)])
    [continued] = response(input="bye", previous_response_id=request.request_id).requests
    assert bytes(continued.prompt_ids) == b"user: hi\nassistant: Hello\nuser: bye"
    with pytest.raises(RequestError, match="no stored response"):
        open_conversation(
            parse_responses_request({"model": MODEL_ID, "input": "a", "previous_response_id": request.request_id}),
            STORE,
            "another tenant",
            1 << 20,
        )


def test_tokenizing_and_counting_need_no_engine() -> None:
    text = "user: hi"
    assert tokenize(MODEL, parse_tokenize_request({"messages": [USER]}))["tokens"] == [*text.encode()]
    assert tokenize(MODEL, parse_tokenize_request({"content": "hi"}))["count"] == 2
    assert detokenize(MODEL, parse_body(DetokenizeRequest, {"tokens": [104, 105]})) == {"prompt": "hi", "content": "hi"}
    assert apply_template(MODEL, parse_body(ApplyTemplateRequest, {"messages": [USER]})) == {"prompt": text}
    body = parse_body(CountTokensRequest, {"model": MODEL_ID, "messages": [USER]})
    assert count_tokens(MODEL, body) == {"input_tokens": len(text)}
