"""Constrained answers of the real engine over an untrained graph, so that only the masks give them their form."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fake_process import MODEL, FakeServer, fake_server

SCHEMA = {
    "type": "object",
    "properties": {"a": {"enum": ["x", "yz"]}, "b": {"type": "boolean"}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
USER = [{"role": "user", "content": "ab"}]
TOOL = {"name": "add", "parameters": SCHEMA}


@pytest.fixture(scope="module")
def real() -> Iterator[FakeServer]:
    with fake_server(engine="synthetic", capacity=1024, rows=4, max_queue=64, server={"access_log": False}) as running:
        yield running


def is_of_schema(text: str) -> bool:
    value = json.loads(text)
    return value.keys() == {"a", "b"} and value["a"] in ("x", "yz") and isinstance(value["b"], bool)


FORMS: list[tuple[dict[str, Any], Any]] = [
    ({"guided_choice": ["red", "green"]}, lambda text: text in ("red", "green")),
    ({"guided_regex": "[ab]{3}c"}, lambda text: re.fullmatch("[ab]{3}c", text)),
    ({"guided_json": SCHEMA}, is_of_schema),
    ({"json_schema": SCHEMA}, is_of_schema),
    (
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "s", "schema": SCHEMA, "strict": True},
            }
        },
        is_of_schema,
    ),
    ({"guided_grammar": 'start: "a" | "bb"'}, lambda text: text in ("a", "bb")),
    ({"grammar": 'root ::= "a" | "bb"'}, lambda text: text in ("a", "bb")),
]
each_form = pytest.mark.parametrize(("fields", "holds"), FORMS, ids=[next(iter(fields)) for fields, _ in FORMS])


@each_form
def test_an_answer_has_the_requested_form(real: FakeServer, fields: dict[str, Any], holds: Any) -> None:
    for seed in range(3):
        choice = real.chat("ab", seed=seed, max_tokens=60, **fields).json["choices"][0]
        assert choice["finish_reason"] == "stop"
        assert holds(choice["message"]["content"])


@each_form
def test_a_completion_has_the_requested_form(real: FakeServer, fields: dict[str, Any], holds: Any) -> None:
    asked = {"prompt": ["ab", "c"], "n": 2, "seed": 1, "max_tokens": 60, **fields}
    answer = real.post("/v1/completions", model=MODEL, **asked).json
    assert len(answer["choices"]) == 4
    for choice in answer["choices"]:
        assert choice["finish_reason"] == "stop"
        assert holds(choice["text"])
    events = real.post("/v1/completions", model=MODEL, stream=True, **asked).events[:-1]
    for index, choice in enumerate(answer["choices"]):
        pieces = [event["choices"][0] for event in events if event["choices"][0]["index"] == index]
        assert "".join(piece["text"] for piece in pieces) == choice["text"]
    shown = real.post("/v1/completions", model=MODEL, echo=True, logprobs=0, **asked).json["choices"][0]["text"]
    assert holds(shown.removeprefix("ab"))


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"response_format": {"type": "json"}}, "response_format.type", "invalid_value"),
        ({"guided_json": {"not": {}}}, "guided_json", "unsupported_schema"),
        ({"guided_regex": "a", "guided_choice": ["b"]}, "guided_choice", "invalid_value"),
        ({"guided_regex": "a", "ignore_eos": True}, "ignore_eos", "invalid_value"),
        ({"guided_regex": "a", "min_tokens": 1}, "min_tokens", "invalid_value"),
        ({"tools": []}, "tools", "unknown_parameter"),
    ],
)
def test_an_unsupported_form_of_a_completion_is_refused(
    real: FakeServer, fields: dict[str, Any], param: str, code: str
) -> None:
    assert real.complete(**fields).error == (400, "invalid_request_error", param, code)


def calls(real: FakeServer, **fields: Any) -> list[dict[str, Any]]:
    choice = real.chat("ab", seed=1, max_tokens=80, **fields).json["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    return [call["function"] for call in choice["message"]["tool_calls"]]


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "add"}}], ids=["any", "named"]
)
def test_a_call_that_is_required_is_made(real: FakeServer, choice: Any) -> None:
    tools = [{"type": "function", "function": TOOL}]
    (call,) = calls(real, tools=tools, tool_choice=choice, parallel_tool_calls=False)
    assert call["name"] == "add"
    assert is_of_schema(call["arguments"])


@pytest.mark.parametrize("max_tokens", [1, 2, 9, 14, 21, 30, 40])
def test_a_call_cut_by_max_tokens_has_no_content(real: FakeServer, max_tokens: int) -> None:
    tools = [{"type": "function", "function": TOOL}]
    fields = {"tools": tools, "tool_choice": "required", "max_tokens": max_tokens, "seed": 1}
    choice = real.chat("ab", **fields).json["choices"][0]
    streamed = real.chat("ab", stream=True, **fields).events[:-1]
    assert choice["finish_reason"] == "length"
    assert not choice["message"]["content"]
    assert not any(event["choices"][0]["delta"].get("content") for event in streamed)

    flat = {"tools": [{"type": "function", **TOOL}], "tool_choice": "required", "max_output_tokens": max_tokens}
    response = real.post("/v1/responses", model=MODEL, input="ab", **flat).json
    assert response["status"] == "incomplete"
    assert not any(part["text"] for item in response["output"] for part in item.get("content", ()))

    tool = {"name": TOOL["name"], "input_schema": TOOL["parameters"]}
    asked = {"tools": [tool], "tool_choice": {"type": "any"}, "max_tokens": max_tokens, "messages": USER}
    message = real.post("/v1/messages", model=MODEL, **asked).json
    assert message["stop_reason"] == "max_tokens"
    assert all(block["type"] == "tool_use" for block in message["content"])


def test_legacy_functions_are_called_like_tools(real: FakeServer) -> None:
    choice = real.chat("ab", seed=1, max_tokens=80, functions=[TOOL], function_call={"name": "add"}).json["choices"][0]
    assert choice["finish_reason"] == "function_call"
    assert is_of_schema(choice["message"]["function_call"]["arguments"])


# After 20 letters, more may follow in more ways than the parser keeps.
WIDE = "root ::= [ab]{20} y\ny ::= " + "|".join(['"a"z'] * 2100) + '\nz ::= "a" | "b" z\n'


def test_a_grammar_that_becomes_too_complex_fails_only_its_own_answer(real: FakeServer) -> None:
    fields = {"grammar": WIDE, "max_tokens": 60}
    with ThreadPoolExecutor(3) as pool:
        beside = pool.submit(real.chat, "ab", max_tokens=200, seed=1, ignore_eos=True)
        whole = pool.submit(real.chat, "ab", **fields)
        streamed = pool.submit(real.chat, "ab", stream=True, **fields)
        assert whole.result().error == (400, "invalid_request_error", None, "schema_too_complex")
        *chunks, last = streamed.result().events
        assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
        assert last["error"]["code"] == "schema_too_complex"
        assert "simplify" in last["error"]["message"]
        assert beside.result().json["choices"][0]["finish_reason"] == "length"


def test_a_grammar_that_is_too_complex_from_the_start_is_refused(real: FakeServer) -> None:
    asked = {"grammar": WIDE.replace("[ab]{20}", '"ab"')}
    assert real.chat("ab", **asked).error == (400, "invalid_request_error", "grammar", "schema_too_complex")


def test_an_unsupported_pattern_of_a_tool_is_ignored(real: FakeServer) -> None:
    mail = {"name": "mail", "parameters": {"properties": {"a": {"type": "string", "pattern": "^(?!b)a"}}}}
    tools = [{"type": "function", "function": function} for function in (mail, TOOL)]
    assert real.chat("ab", tools=tools, tool_choice="required", max_tokens=1).status == 200
    mail["strict"] = True
    refused = real.chat("ab", tools=tools, tool_choice="required", max_tokens=1)
    assert refused.error == (400, "invalid_request_error", "tools", "unsupported_schema")


@pytest.mark.parametrize("function", [{}, {"parameters": {}}, {"parameters": {"type": "object", "properties": {}}}])
def test_a_function_without_parameters_is_called_with_none(real: FakeServer, function: dict[str, Any]) -> None:
    tools = [{"type": "function", "function": {"name": "now", **function}}]
    (call,) = calls(real, tools=tools, tool_choice="required", parallel_tool_calls=False)
    assert json.loads(call["arguments"]) == {}
