"""What `/v1/responses` takes, and the conversation that its items make."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_completion_request import JSON

from infrs.api.chat.prompt import template_messages
from infrs.api.responses.convert import to_task
from infrs.api.responses.items import parse_items
from infrs.api.responses.output_items import OutputItems
from infrs.api.responses.request import LOGPROBS, ResponsesRequest, parse_responses_request
from infrs.api.responses.response_object import response
from infrs.errors import RequestError
from infrs.text.constraint import JSON_OBJECT
from infrs.text.tools.events import Arguments, CallStart

USER = {"role": "user", "content": "hi"}
CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"x": 1}'}
OTHER = {"type": "function_call", "call_id": "c2", "name": "g", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "sunny"}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]}
SUMMARY = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Short."}]}
SAID = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "It is ", "annotations": [], "logprobs": []}] * 2,
}
F, G = ({"name": name, "arguments": arguments} for name, arguments in (("f", {"x": 1}), ("g", {})))


def body(**fields: object) -> dict[str, Any]:
    return {"model": "m", "input": "hi", **fields}


def messages(items: list[Any], **fields: Any) -> list[dict[str, Any]]:
    """The conversation as a chat template gets it, without ids."""
    shown = template_messages(to_task(parse_responses_request(body(input=items, **fields))).conversation)
    for message in shown:
        if "tool_calls" in message:
            message["tool_calls"] = [call["function"] for call in message["tool_calls"]]
    return shown


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([USER], [USER]),
        ([{"role": "developer", "content": "be"}, USER], [{"role": "system", "content": "be"}, USER]),
        ([USER, SAID, USER], [USER, {"role": "assistant", "content": "It is It is "}, USER]),
        (
            [USER, THOUGHT, SAID, CALL, OTHER],
            [
                USER,
                {
                    "role": "assistant",
                    "content": "It is It is ",
                    "reasoning_content": "Hm.",
                    "tool_calls": [F, G],
                },
            ],
        ),
        (
            [CALL, RESULT, SUMMARY, SAID],
            [
                {"role": "assistant", "content": "", "tool_calls": [F]},
                {"role": "tool", "content": "sunny", "tool_call_id": "c1", "name": "f"},
                {"role": "assistant", "content": "It is It is ", "reasoning_content": "Short."},
            ],
        ),
        (
            [CALL, SAID, THOUGHT],
            [
                {"role": "assistant", "content": "", "tool_calls": [F]},
                {"role": "assistant", "content": "It is It is "},
                {"role": "assistant", "content": "", "reasoning_content": "Hm."},
            ],
        ),
    ],
)
def test_the_conversation_that_items_make(items: list[Any], expected: list[Any]) -> None:
    assert messages(items) == expected


def test_instructions_come_first() -> None:
    assert messages([USER], instructions="be")[0] == {"role": "system", "content": "be"}


def test_stored_items_are_accepted_as_input() -> None:
    asked = parse_responses_request(body(input=[USER, SAID, THOUGHT, CALL, RESULT]))
    shown = [item.stored() for item in asked.input]
    assert [item["id"].partition("_")[0] for item in shown] == ["msg", "msg", "rs", "fc", "fco"]
    again = parse_responses_request(body(input=shown))
    assert [item.stored() for item in again.input] == shown
    assert to_task(again) == to_task(asked)
    continued = to_task(parse_responses_request(body()), earlier=parse_items(shown))
    assert continued.conversation.turns[:-1] == to_task(asked).conversation.turns


def test_too_long_a_conversation_is_refused() -> None:
    with pytest.raises(RequestError) as refused:
        to_task(parse_responses_request(body()), earlier=parse_items([USER] * 2048))
    assert (refused.value.param, refused.value.code) == ("input", "array_above_max_length")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"tool_choice": "none"},
        {"tools": [{"type": "function", "name": "f"}], "tool_choice": {"type": "function", "name": "f"}},
        {"text": {"format": {"type": "json_schema", "name": "s", "schema": {"a": None}}}, "reasoning": {}},
    ],
)
def test_the_response_repeats_the_request_fields(fields: dict[str, Any]) -> None:
    asked = parse_responses_request(body(**fields))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shown = response(asked, response_id="resp_1", created=1, stored=True, status="completed", sampling=SAMPLING)
    assert shown.items() >= SAMPLING.items()
    assert shown["tool_choice"] == fields.get("tool_choice", "auto")
    assert shown["text"]["format"] == fields.get("text", {"format": {"type": "text"}})["format"]
    assert [tool["name"] for tool in shown["tools"]] == [tool["name"] for tool in fields.get("tools", [])]


@pytest.mark.parametrize("name", sorted(ResponsesRequest.model_fields.keys() - {"model", "input"}))
def test_null_is_absent(name: str) -> None:
    assert parse_responses_request(body(**{name: None})) == parse_responses_request(body())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_tokens": 5}, "max_tokens is not a parameter of this endpoint; did you mean max_output_tokens?"),
        ({"input": 5}, "input: 5 is not allowed: expected a string or an array of items"),
        ({"input": []}, "input: expected at least 1, not 0"),
        (
            {"input": [CALL | {"argumentz": "{}"}]},
            "input[0].argumentz is not a parameter of this endpoint; did you mean arguments?",
        ),
        ({"input": [USER | {"argumentz": "{}"}]}, "input[0].argumentz is not a parameter of this endpoint; remove it"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_text", "txt": "a"}]}]},
            "input[0].content[0].txt is not a parameter of this endpoint; did you mean text?",
        ),
    ],
)
def test_the_message_says_what_to_do(fields: dict[str, object], message: str) -> None:
    error = fault(body() | fields)
    assert error is not None
    assert error.message == message


SAMPLING = {"temperature": 0.5, "top_p": 0.25, "presence_penalty": 1.5, "frequency_penalty": -1.0}
TOOL = {"type": "function", "name": "f"}
ALLOWED = {"type": "allowed_tools", "mode": "required", "tools": [TOOL]}
FORM = {"type": "json_schema", "name": "s", "schema": {}}


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"stream_options": {"include_obfuscation": True}}, "stream_options", "invalid_value"),
        ({"input": [{"role": "tool", "content": "a"}]}, "input[0].role", "invalid_value"),
        ({"input": [{"type": "web_search_call"}]}, "input[0].type", "unsupported_parameter"),
        ({"input": ["a"]}, "input[0]", "invalid_type"),
        ({"input": [RESULT]}, "input[0].call_id", "invalid_value"),
        ({"input": [RESULT, CALL]}, "input[0].call_id", "invalid_value"),
        ({"input": [OTHER, RESULT]}, "input[1].call_id", "invalid_value"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "unsupported_parameter"),
        ({"tools": [{"name": "f"}]}, "tools[0].type", "missing_required_parameter"),
        *(({"tools": [TOOL, {"type": kind}]}, "tools[1].type", "unsupported_parameter") for kind in ([], {}, 1, "x")),
        ({"tools": [TOOL], "tool_choice": {"type": "function"}}, "tool_choice.name", "invalid_value"),
        ({"tools": [TOOL], "tool_choice": ALLOWED | {"name": "f"}}, "tool_choice.name", "invalid_value"),
        ({"tools": [TOOL], "tool_choice": ALLOWED | {"mode": None}}, "tool_choice.mode", "invalid_value"),
        ({"tools": [TOOL], "tool_choice": TOOL | {"mode": "auto"}}, "tool_choice.mode", "invalid_value"),
        ({"tools": [TOOL | {"name": "g"}], "tool_choice": ALLOWED}, "tool_choice.tools", "invalid_value"),
        ({"text": {"format": {**FORM, "name": None}}}, "text.format.name", "missing_required_parameter"),
        ({"text": {"format": {**FORM, "schema": None}}}, "text.format.schema", "missing_required_parameter"),
        ({"text": {"format": {"type": "text", "strict": False}}}, "text.format.strict", "invalid_value"),
        ({"text": {"format": {"type": "json_object", "name": "s"}}}, "text.format.name", "invalid_value"),
        ({"reasoning": {"summary": "long"}}, "reasoning.summary", "invalid_value"),
        ({"background": True}, "background", "unsupported_parameter"),
    ],
    ids=str,
)
def test_refusals(fields: dict[str, Any], param: str, code: str) -> None:
    error = fault(body(**fields))
    assert error is not None
    assert (error.param, error.code) == (param, code)
    assert error.message.startswith(param)


@pytest.mark.parametrize(
    ("choice", "must_call", "names"),
    [
        (None, False, ["f", "g"]),
        ("none", False, []),
        ("required", True, ["f", "g"]),
        ({"type": "function", "name": "g"}, True, ["g"]),
        (ALLOWED, True, ["f"]),
        (ALLOWED | {"mode": "auto"}, False, ["f"]),
    ],
    ids=str,
)
def test_which_tools_may_be_called(choice: Any, must_call: bool, names: list[str]) -> None:
    asked = to_task(parse_responses_request(body(tools=[TOOL, TOOL | {"name": "g"}], tool_choice=choice)))
    assert asked.must_call == must_call
    assert [tool.name for tool in asked.conversation.tools] == names


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, JSON_OBJECT),
        (FORM | {"schema": {"type": "null"}}, '{"type":"null"}'),
    ],
    ids=str,
)
def test_the_form_of_the_text(form: dict[str, Any], expected: str | None) -> None:
    asked = to_task(parse_responses_request(body(text={"format": form})))
    assert (asked.constraint and asked.constraint.text) == expected
    assert (asked.constraint and asked.constraint.param) == (None if expected is None else "text.format")


def test_a_result_of_a_call_that_is_kept() -> None:
    asked = to_task(parse_responses_request(body(input=[RESULT])), earlier=parse_items([CALL]))
    assert [turn.role for turn in asked.conversation.turns] == ["assistant", "tool"]


@pytest.mark.parametrize(
    ("fields", "num_logprobs"),
    [({}, None), ({"top_logprobs": 0}, None), ({"top_logprobs": 3}, 3), ({"include": [LOGPROBS]}, 0)],
)
def test_log_probabilities(fields: dict[str, Any], num_logprobs: int | None) -> None:
    assert to_task(parse_responses_request(body(**fields))).options.num_logprobs == num_logprobs


ITEMS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["message", "function_call", "function_call_output", "reasoning", "x", 1, None]),
        "role": st.sampled_from(["user", "assistant", "tool", None]),
        **dict.fromkeys(("content", "summary", "call_id", "name", "arguments", "output", "id", "status"), JSON),
    },
)


@given(
    st.dictionaries(
        st.sampled_from(sorted(ResponsesRequest.model_fields.keys() - {"input"})) | st.text(), JSON, max_size=4
    ),
    st.text() | st.lists(ITEMS | JSON, max_size=3) | JSON,
)
def test_any_object_is_taken_or_refused_with_a_code(fields: dict[str, object], given_input: object) -> None:
    error = fault(body() | {"input": given_input} | fields)
    if error is not None:
        assert error.param is not None
        assert 0 < len(error.message) <= 500
        assert "\n" not in error.message


def fault(payload: dict[str, Any]) -> RequestError | None:
    try:
        to_task(parse_responses_request(payload))
    except RequestError as error:
        return error
    return None


SHELL = {"type": "function", "name": "shell"}
HOSTED = [
    {"type": "web_search", "external_web_access": False},
    {
        "type": "custom",
        "name": "apply_patch",
        "format": {"type": "grammar", "syntax": "lark", "definition": "start: /a/"},
    },
    {"type": "local_shell"},
    {"type": "mcp", "server_label": "x"},
]


@pytest.mark.parametrize("choice", [None, "auto", "required", SHELL])
def test_hosted_tools_with_functions_are_dropped(choice: Any) -> None:
    asked = parse_responses_request(body(tools=[HOSTED[0], SHELL, *HOSTED[1:]], tool_choice=choice))
    assert [tool.name for tool in to_task(asked).conversation.tools] == ["shell"]
    shown = response(asked, response_id="r", created=1, stored=True, status="completed", sampling=SAMPLING)
    assert [tool["name"] for tool in shown["tools"]] == ["shell"]


@pytest.mark.parametrize("tool", HOSTED)
def test_hosted_tools_alone_are_refused(tool: dict[str, Any]) -> None:
    error = fault(body(tools=[tool]))
    assert error is not None
    assert (error.param, error.code) == ("tools[0].type", "unsupported_parameter")


def test_functions_of_a_namespace() -> None:
    space = {"type": "namespace", "name": "mcp__x", "description": "d", "tools": [SHELL, HOSTED[1]]}
    call = CALL | {"name": "shell", "namespace": "mcp__x"}
    asked = parse_responses_request(body(tools=[SHELL, space], input=[call, RESULT]))
    conversation = to_task(asked).conversation
    assert [tool.name for tool in conversation.tools] == ["shell", "mcp__x.shell"]
    assert [call.name for call in conversation.turns[0].calls] == ["mcp__x.shell"]
    assert asked.input[0].model_dump(exclude_none=True) == call
    shown = response(asked, response_id="r", created=1, stored=True, status="completed", sampling=SAMPLING)
    assert [tool["name"] for tool in shown["tools"][1]["tools"]] == ["shell"]
    output = OutputItems(asked.names)
    events = [*output.add([CallStart("mcp__x.shell"), Arguments("{}"), CallStart("shell")], [])]
    assert [(item["name"], item.get("namespace")) for item in output.whole()] == [("shell", "mcp__x"), ("shell", None)]
    assert events[0]["item"]["namespace"] == "mcp__x"
