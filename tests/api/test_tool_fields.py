"""The fields about tools and about the form of an answer: what they may say, and what they come to."""

from __future__ import annotations

import pytest
from test_requests import ASSISTANT, CALLS, FUNCTION_CALL, USER, body, message, refusal

from infrs.api.chat.convert import to_task
from infrs.api.chat.request import parse_chat_request
from infrs.text.constraint import JSON_OBJECT

F, G = ({"name": name, "parameters": {"type": "object", "properties": {}}} for name in "fg")
TOOLS: list[object] = [{"type": "function", "function": function} for function in (F, G)]
NAMED = {"type": "function", "function": {"name": "f"}}
ALLOWED: dict[str, object] = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [NAMED]}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "null"}}}


@pytest.mark.parametrize(
    ("payload", "param", "code"),
    [
        (body(tools=TOOLS, functions=[{**F, "name": "h"}]), "functions", "invalid_value"),
        (body(tools=TOOLS, function_call="auto"), "function_call", "invalid_value"),
        (body(functions=[F], tool_choice="auto"), "tool_choice", "invalid_value"),
        (body(tools=[*TOOLS, *TOOLS]), "tools", "invalid_value"),
        (body(functions=[F, F]), "functions", "invalid_value"),
        (
            body(tools=TOOLS, tool_choice={"type": "function", "function": {"name": "h"}}),
            "tool_choice",
            "invalid_value",
        ),
        (body(functions=[F], function_call={"name": "h"}), "function_call", "invalid_value"),
        (body(tool_choice="required"), "tool_choice", "invalid_value"),
        (
            body(tools=TOOLS, tool_choice={"type": "function"}),
            "tool_choice.function",
            "missing_required_parameter",
        ),
        (
            body(tools=TOOLS, tool_choice={**ALLOWED, "function": {"name": "f"}}),
            "tool_choice.function",
            "invalid_value",
        ),
        (body(tools=TOOLS[1:], tool_choice=ALLOWED), "tool_choice.allowed_tools.tools", "invalid_value"),
        (body(tools=TOOLS, tool_choice="sometimes"), "tool_choice", "invalid_value"),
        (body(tools=TOOLS, tool_choice=5), "tool_choice", "invalid_type"),
        (body(functions=[{**F, "parameters": {"type": "array"}}]), "functions[0].parameters", "invalid_value"),
        (body(guided_regex="a", guided_choice=["a"]), "guided_choice", "invalid_value"),
        (body(guided_regex="a", ignore_eos=True), "ignore_eos", "invalid_value"),
        (body(response_format=SCHEMA, min_tokens=1), "min_tokens", "invalid_value"),
        (body(tools=TOOLS, tool_choice="required", ignore_eos=True), "ignore_eos", "invalid_value"),
        (
            body(messages=[USER, ASSISTANT], continue_final_message=True, guided_regex="a"),
            "continue_final_message",
            "invalid_value",
        ),
        (message(tool_calls=CALLS["tool_calls"]), "messages[0].tool_calls", "invalid_value"),
        (message(function_call={"name": "f", "arguments": ""}), "messages[0].function_call", "invalid_value"),
        (message(reasoning_content="Hm."), "messages[0].reasoning_content", "invalid_value"),
        (message(tool_call_id="c1"), "messages[0].tool_call_id", "invalid_value"),
        (body(messages=[{**CALLS, **FUNCTION_CALL}]), "messages[0].function_call", "invalid_value"),
    ],
)
def test_refusals(payload: dict[str, object], param: str, code: str) -> None:
    error = refusal(payload)
    assert (error.param, error.code) == (param, code)
    assert error.message.startswith(param)


@pytest.mark.parametrize(
    ("fields", "must_call", "max_calls", "names"),
    [
        ({}, False, None, []),
        ({"tools": TOOLS}, False, None, ["f", "g"]),
        ({"tools": TOOLS, "tool_choice": "none"}, False, 1, []),
        ({"tools": TOOLS, "tool_choice": "required"}, True, None, ["f", "g"]),
        ({"tools": TOOLS, "parallel_tool_calls": False}, False, 1, ["f", "g"]),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "g"}}}, True, 1, ["g"]),
        ({"tools": TOOLS, "tool_choice": ALLOWED}, True, None, ["f"]),
        ({"functions": [F, G]}, False, 1, ["f", "g"]),
        ({"functions": [F, G], "function_call": "none"}, False, 1, []),
        ({"functions": [F, G], "function_call": {"name": "g"}}, True, 1, ["g"]),
    ],
    ids=str,
)
def test_which_tools_may_be_called(
    fields: dict[str, object], must_call: bool, max_calls: int | None, names: list[str]
) -> None:
    asked = parse_chat_request(body(**fields))
    assert (asked.must_call, asked.max_calls) == (must_call, max_calls)
    assert [tool.name for tool in asked.callable_tools] == names
    assert asked.uses_functions == ("functions" in fields)
    assert asked.constrained_by == (asked.declared_in if must_call else None)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, ("json_schema", JSON_OBJECT, "response_format")),
        ({"response_format": SCHEMA}, ("json_schema", '{"type":"null"}', "response_format")),
        ({"guided_json": {"type": "null"}}, ("json_schema", '{"type":"null"}', "guided_json")),
        ({"guided_json": '{"type":"null"}'}, ("json_schema", '{"type":"null"}', "guided_json")),
        ({"json_schema": True}, ("json_schema", "true", "json_schema")),
        ({"guided_regex": "a+"}, ("regex", "a+", "guided_regex")),
        ({"guided_choice": ["a", "b"]}, ("choice", '["a","b"]', "guided_choice")),
        ({"guided_grammar": "start: /a/"}, ("grammar", "start: /a/", "guided_grammar")),
        ({"grammar": "root ::= a"}, ("grammar", "root ::= a", "grammar")),
    ],
    ids=str,
)
def test_each_structured_output_field_makes_its_constraint(
    fields: dict[str, object], expected: tuple[str, str, str] | None
) -> None:
    asked = parse_chat_request(body(**fields))
    constraint = to_task(asked).constraint
    assert (constraint and (constraint.kind, constraint.text, constraint.param)) == expected
    assert asked.constrained_by == (expected[2] if expected else None)
    called = parse_chat_request(body(**fields, tools=TOOLS, tool_choice="required"))
    assert (to_task(called).constraint, called.constrained_by) == (None, "tools")


@pytest.mark.parametrize("pattern", ["[ ]?", r"[ \n\t]*", " {0}", r" |\n {0,4}", " " * 64])
def test_a_whitespace_pattern_goes_with_every_schema(pattern: str) -> None:
    for fields in ({"response_format": SCHEMA}, {"guided_json": {}}, {"json_schema": True}):
        constraint = to_task(parse_chat_request(body(guided_whitespace_pattern=pattern, **fields))).constraint
        assert constraint is not None
        assert constraint.whitespace == pattern
    assert to_task(parse_chat_request(body(guided_whitespace_pattern=pattern, tools=TOOLS))).whitespace == pattern


@pytest.mark.parametrize("pattern", ["a", r"\s*", "[^a]", " |x", ".", " " * 63 + "x", "[ ]{0,999}"])
def test_a_whitespace_pattern_that_allows_other_text_is_refused(pattern: str) -> None:
    refused = refusal(body(guided_whitespace_pattern=pattern, guided_json={}))
    assert refused.param == "guided_whitespace_pattern"
    assert "spaces, tabs and line breaks" in refused.message


def test_an_empty_list_of_parts_with_calls_or_as_a_result_is_accepted() -> None:
    """Zed sends one for a message that only calls tools, and for a tool without output."""
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turns = [USER, {"role": "assistant", "content": [], "tool_calls": [call]}]
    turns.append({"role": "tool", "tool_call_id": "c1", "content": []})
    conversation = to_task(parse_chat_request(body(messages=turns))).conversation
    assert [turn.content for turn in conversation.turns[1:]] == ["", ""]
    assert refusal(body(messages=[{"role": "user", "content": []}])).code == "empty_array"
