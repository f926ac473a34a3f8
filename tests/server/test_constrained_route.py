"""Answers that must be of a form, from the real engine over a graph that knows nothing: only the masks can do it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from fake_process import FakeServer, fake_server

SCHEMA = {
    "type": "object",
    "properties": {"a": {"enum": ["x", "yz"]}, "b": {"type": "boolean"}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
TOOL = {"name": "add", "parameters": SCHEMA}


@pytest.fixture(scope="module")
def real() -> Iterator[FakeServer]:
    with fake_server(engine="synthetic", capacity=1024, rows=4, max_queue=64, server={"access_log": False}) as running:
        yield running


def is_of_schema(text: str) -> bool:
    value = json.loads(text)
    return value.keys() == {"a", "b"} and value["a"] in ("x", "yz") and isinstance(value["b"], bool)


@pytest.mark.parametrize(
    ("fields", "holds"),
    [
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
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_answer_is_of_the_form_asked_for(real: FakeServer, fields: dict[str, Any], holds: Any) -> None:
    for seed in range(3):
        choice = real.chat("ab", seed=seed, max_tokens=60, **fields).json["choices"][0]
        assert choice["finish_reason"] == "stop"
        assert holds(choice["message"]["content"])


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


def test_functions_are_tools_of_before(real: FakeServer) -> None:
    choice = real.chat("ab", seed=1, max_tokens=80, functions=[TOOL], function_call={"name": "add"}).json["choices"][0]
    assert choice["finish_reason"] == "function_call"
    assert is_of_schema(choice["message"]["function_call"]["arguments"])
