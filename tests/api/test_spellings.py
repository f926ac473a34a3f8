"""Other spellings that clients use for the same request: each makes the same task as OpenAI's or Anthropic's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from infrs.api.anthropic.convert import to_task as message_task
from infrs.api.anthropic.request import MessagesRequest
from infrs.api.chat.convert import to_task as chat_task
from infrs.api.chat.request import ChatCompletionRequest
from infrs.api.common.conversation import ChatTask, FieldNames
from infrs.api.common.fields import parse_body
from infrs.api.responses.convert import to_task as response_task
from infrs.api.responses.request import ResponsesRequest
from infrs.errors import RequestError

USER = {"role": "user", "content": "hi"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
F = {"name": "f", "parameters": SCHEMA}
TOOL = {"type": "function", "function": F}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": ""}
JSON_SCHEMA = {"type": "json_schema", "json_schema": {"schema": SCHEMA}}
NAMED = {"type": "function", "function": {"name": "f"}}


def chat(**fields: Any) -> ChatTask:
    return chat_task(parse_body(ChatCompletionRequest, {"model": "m", "messages": [USER]} | fields))


def response(**fields: Any) -> ChatTask:
    return response_task(parse_body(ResponsesRequest, {"model": "m", "input": [USER]} | fields))


def message(**fields: Any) -> ChatTask:
    body = {"model": "m", "max_tokens": 9, "messages": [USER]} | fields
    return message_task(parse_body(MessagesRequest, body), variables=frozenset(), thinks=False)


def turn(**fields: Any) -> dict[str, Any]:
    return {"messages": [USER, {"role": "assistant", "content": "x"} | fields, USER]}


def called(call: dict[str, Any], **result: Any) -> dict[str, Any]:
    assistant = {"role": "assistant", "content": None, "tool_calls": [call]}
    return {"messages": [USER, assistant, RESULT | result], "tools": [TOOL]}


def calling(**function: Any) -> dict[str, Any]:
    return called(CALL | {"function": {"name": "f"} | function})


def items(*given: dict[str, Any]) -> dict[str, Any]:
    call = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a": 1}'}
    return {"input": [USER, *(call | item if item["type"] == "function_call" else item for item in given)]}


OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": ""}
OUR_CALL = {"type": "function_call"}

CHATS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    # An answer can be empty: one of reasoning alone, or one that a limit cut inside a call.
    (turn(content=None), turn(content="")),
    (turn(content=[]), turn(content="")),
    (turn(content=None, tool_calls=[]), turn(content="")),
    (turn(content=None, reasoning_content="Hm."), turn(content="", reasoning_content="Hm.")),
    # What other servers, routers and clients add to an answer.
    (turn(reasoning="Hm."), turn(reasoning_content="Hm.")),
    (turn(reasoning="Hm.", reasoning_content="Hm."), turn(reasoning_content="Hm.")),
    (turn(id="m1", images=[], prefix=False, thinking_blocks=[{"thinking": "Hm."}]), turn()),
    (turn(reasoning=None, unknown=None, images=None), turn()),
    (turn(content=[{"type": "output_text", "text": "x"}]), turn()),
    (turn(content=[{"type": "text", "text": "x", "role": "assistant", "annotations": [], "refusal": None}]), turn()),
    ({"messages": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}]}, {}),
    # Calls that a client has put together.
    (called(CALL | {"type": None}), called(CALL)),
    (called({key: value for key, value in CALL.items() if key != "type"}), called(CALL)),
    (calling(arguments={"a": 1}), called(CALL)),
    (calling(arguments=None), calling(arguments="{}")),
    (calling(), calling(arguments="{}")),
    (calling(arguments=""), calling(arguments="{}")),
    (called(CALL, content=None), called(CALL)),
    (called({"id": CALL["id"], "type": "custom", "custom": {"name": "f", "input": "*** \u00e9"}}),
     calling(arguments={"input": "*** \u00e9"})),
    # Tools.
    ({"tools": [{"function": F}]}, {"tools": [TOOL]}),
    *(
        ({"tools": [TOOL, hosted]}, {"tools": [TOOL]})
        for hosted in (
            {"type": "web_search"},
            {"type": "mcp", "server_label": "s", "server_url": "http://x"},
            {"type": "custom", "custom": {"name": "patch", "format": {"type": "text"}}},
        )
    ),
    ({"tools": [TOOL], "tool_choice": "any"}, {"tools": [TOOL], "tool_choice": "required"}),
    *(
        ({"tools": [TOOL], "tool_choice": {"type": mode}}, {"tools": [TOOL], "tool_choice": same})
        for mode, same in (("auto", "auto"), ("none", "none"), ("required", "required"), ("any", "required"))
    ),
    ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "f"}}, {"tools": [TOOL], "tool_choice": NAMED}),
    ({"tools": [TOOL], "tool_choice": {"function": {"name": "f"}}}, {"tools": [TOOL], "tool_choice": NAMED}),
    # Structured output.
    ({"response_format": {"type": "json_object", "schema": SCHEMA}}, {"response_format": JSON_SCHEMA}),
    ({"response_format": {"type": "json_schema", "schema": SCHEMA}}, {"response_format": JSON_SCHEMA}),
    ({"structured_outputs": {"json": SCHEMA}}, {"guided_json": SCHEMA}),
    ({"structured_outputs": {"json": "{}", "regex": None}}, {"guided_json": "{}"}),
    ({"structured_outputs": {"json_object": True}}, {"guided_json": '{"type":"object"}'}),
    ({"structured_outputs": {"regex": "a+"}}, {"guided_regex": "a+"}),
    ({"structured_outputs": {"choice": ["a", "b"]}}, {"guided_choice": ["a", "b"]}),
    ({"structured_outputs": {"grammar": 'root ::= "a"'}}, {"guided_grammar": 'root ::= "a"'}),
    ({"structured_outputs": {"json": SCHEMA, "whitespace_pattern": "[ ]?"}},
     {"guided_json": SCHEMA, "guided_whitespace_pattern": "[ ]?"}),
    ({"structured_outputs": {"json": SCHEMA, "disable_any_whitespace": True, "disable_fallback": True}},
     {"guided_json": SCHEMA, "guided_whitespace_pattern": " {0}"}),
    ({"structured_outputs": {}}, {}),
    ({"regex": "a+", "ebnf": ""}, {"guided_regex": "a+"}),
    ({"ebnf": 'root ::= "a"'}, {"guided_grammar": 'root ::= "a"'}),
    # Reasoning.
    *(({"reasoning_effort": none}, {}) for none in ("", "auto", "default", None)),
    ({"reasoning": {"effort": "high", "exclude": True, "summary": "auto"}}, {"reasoning_effort": "high"}),
    *(
        (off, {"reasoning_effort": "none"})
        for off in (
            {"enable_thinking": False},
            {"thinking": {"type": "disabled"}},
            {"reasoning": {"enabled": False, "effort": "high"}},
            {"enable_thinking": False, "reasoning_effort": "low"},
        )
    ),
    *(
        (on, {"enable_thinking": True, "thinking_budget": 100})
        for on in (
            {"thinking": {"type": "enabled", "budget_tokens": 100}},
            {"thinking": {"type": "adaptive"}, "thinking_budget": 100},
            {"reasoning": {"enabled": True, "max_tokens": 100}},
        )
    ),
    ({"thinking": {"type": "auto"}, "reasoning": {}}, {}),
    ({"reasoning_split": True, "reasoning_format": "parsed", "reasoning_summary": "auto"}, {}),
]  # fmt: skip
RESPONSES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (items({"role": "assistant", "type": "message", "content": []}, USER | {"type": "message"}),
     items({"role": "assistant", "type": "message", "content": ""}, USER | {"type": "message"})),
    ({"input": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}, {}),
    (items(OUR_CALL, OUTPUT | {"output": []}), items(OUR_CALL, OUTPUT)),
    (items(OUR_CALL | {"arguments": {"a": 1}, "parsed_arguments": {"a": 1}}, OUTPUT), items(OUR_CALL, OUTPUT)),
    *(
        (items({"type": "reasoning", "content": [{"type": "reasoning_text", "text": "Hm."}]} | without, OUR_CALL,
               OUTPUT),
         items({"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}, OUR_CALL, OUTPUT))
        for without in ({}, {"summary": None}, {"summary": [], "encrypted_content": "x"})
    ),
    # What OpenAI adds to items, and calls of tools that only its models have.
    (items(OUR_CALL | {"caller": {"type": "direct"}, "created_by": "x"}, OUTPUT | {"caller": {"type": "direct"}}),
     items(OUR_CALL, OUTPUT)),
    (items({"type": "custom_tool_call", "call_id": "c1", "name": "f", "input": "*** \u00e9", "id": "ctc_1"},
           OUTPUT | {"type": "custom_tool_call_output", "output": "ok"}),
     items(OUR_CALL | {"arguments": {"input": "*** \u00e9"}}, OUTPUT | {"output": "ok"})),
    ({"background_options": {"completion_window": "soonest"}, "access_programs": {"cyber": "standard"},
      "image": {"context_compression": "auto"}}, {}),
    ({"tools": [F | {"type": "function"}], "tool_choice": {"type": "auto"}}, {"tools": [F | {"type": "function"}]}),
    ({"tools": [F | {"type": "function"}], "tool_choice": NAMED},
     {"tools": [F | {"type": "function"}], "tool_choice": {"type": "function", "name": "f"}}),
    ({"stream": True, "stream_options": {"include_usage": True}}, {"stream": True}),
    ({"stop": None, "seed": None, "logit_bias": None}, {}),
]  # fmt: skip
CITY = {"name": "f", "input_schema": SCHEMA}
MESSAGES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (turn(content=[]), turn(content="")),
    (turn(content=[{"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "x"}]), turn()),
    *(
        ({"tools": [CITY, {"type": hosted, "name": "x", "max_uses": 5}]}, {"tools": [CITY]})
        for hosted in ("web_search_20250305", "bash_20250124", "text_editor_20250728", "memory_20250818",
                       "tool_search_tool_regex_20251119", "mcp_toolset")
    ),
    ({"output_format": {"type": "json_schema", "schema": SCHEMA}},
     {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}),
    ({"output_config": {"task_budget": {"type": "tokens", "total": 20000}}, "output_format": None}, {}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("task", "spelling", "same"),
    [(task, *pair) for task, pairs in ((chat, CHATS), (response, RESPONSES), (message, MESSAGES)) for pair in pairs],
)
def test_each_spelling_makes_the_same_task(
    task: Callable[..., ChatTask], spelling: dict[str, Any], same: dict[str, Any]
) -> None:
    made, expected = task(**spelling), task(**same)
    conversations = [replace(each.conversation, field_names=FieldNames()) for each in (made, expected)]
    assert conversations[0] == conversations[1]
    assert replace(made, conversation=expected.conversation) == expected


@pytest.mark.parametrize(
    ("task", "fields", "param"),
    [
        (chat, {"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        (chat, {"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        (chat, {"messages": [{"role": "assistant"}]}, "messages[0].content"),
        (chat, {"messages": [USER | {"reasoning": "Hm."}]}, "messages[0].reasoning"),
        (chat, turn(images=["x"]), "messages[1].images"),
        (chat, turn(prefix=True), "messages[1].prefix"),
        (chat, turn(unknown=[]), "messages[1].unknown"),
        (chat, calling(arguments=[1]), "messages[1].tool_calls[0].function.arguments"),
        (chat, called({"id": "c1", "type": "custom", "custom": {"name": "f"}}), "messages[1].tool_calls[0].type"),
        (chat, {"tools": [{"type": "web_search"}]}, "tools[0].type"),
        (chat, {"tools": [TOOL, {"type": "retrieval"}]}, "tools[1].type"),
        (chat, {"tools": [TOOL, {"type": "web_search"}], "tool_choice": {"type": "web_search"}}, "tool_choice.type"),
        (chat, {"functions": [F], "function_call": "any"}, "function_call"),
        (chat, {"response_format": {"type": "text", "schema": SCHEMA}}, "response_format.schema"),
        (chat, {"response_format": JSON_SCHEMA | {"schema": SCHEMA}}, "response_format.schema"),
        (chat, {"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs.choice"),
        (chat, {"structured_outputs": {"regex": "a"}, "guided_regex": "a"}, "structured_outputs.regex"),
        (chat, {"structured_outputs": {"structural_tag": "{}"}}, "structured_outputs.structural_tag"),
        (chat, {"structured_outputs": {"json": {}, "whitespace_pattern": "x"}},
         "structured_outputs.whitespace_pattern"),
        (chat, {"thinking": {"type": "on"}}, "thinking.type"),
        (response, {"input": [{"role": "user", "content": []}]}, "input[0].content"),
        (response, items(OUR_CALL | {"caller": {"type": "program", "caller_id": "p"}}, OUTPUT), "input[1].caller"),
        (response, items({"type": "custom_tool_call", "call_id": "c1", "name": "f"}), "input[1].input"),
        (response, items({"type": "custom_tool_call_output", "call_id": "c1", "output": ""}), "input[1].call_id"),
        (response, {"background_options": {"completion_window": "8h"}}, "background_options"),
        (message, {"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        (message, {"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0].type"),
        (message, {"tools": [CITY, {"type": "hammer_20250124", "name": "x"}]}, "tools[1].type"),
        (message, {"output_format": {"type": "json_schema", "schema": {}},
                   "output_config": {"format": {"type": "json_schema", "schema": {}}}}, "output_format"),
    ],
)  # fmt: skip
def test_what_asks_for_something_else_is_refused(
    task: Callable[..., ChatTask], fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(RequestError) as refused:
        task(**fields)
    assert refused.value.param == param
