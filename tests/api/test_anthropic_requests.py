"""Anthropic's bodies: what they become, and what is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from infrs.api.anthropic.convert import to_conversation, to_task
from infrs.api.anthropic.request import CountTokensRequest, MessagesRequest
from infrs.api.chat.prompt import template_messages
from infrs.api.common.conversation import ChatTask
from infrs.api.common.fields import parse_body
from infrs.errors import RequestError

TOOL = {"name": "add", "description": "Adds.", "input_schema": {"type": "object", "properties": {"a": {}}}}
CALL = {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": "é"}}


def task(*, variables: frozenset[str] = frozenset(), thinks: bool = False, **fields: Any) -> ChatTask:
    body = {"model": "m", "max_tokens": 5, "messages": [user("hi")]} | fields
    return to_task(parse_body(MessagesRequest, body), variables=variables, thinks=thinks)


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def result(**fields: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "t1"} | fields


def template_turns(**fields: Any) -> list[dict[str, Any]]:
    """The messages as chat templates get them."""
    return template_messages(task(**fields).conversation)


def test_system_and_text() -> None:
    marked = text("Be kind.") | {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    system = {"role": "system", "content": "Be brief.\nBe kind."}
    assert template_turns(system=[text("Be brief."), marked])[0] == system
    assert template_turns(system="Be brief.\nBe kind.")[0] == system
    assert template_turns(messages=[user([text("a"), text("b")])]) == [user("a\nb")]
    later = {"role": "system", "content": "Now German."}
    assert template_turns(messages=[user("a"), later, user("b")]) == [user("a"), later, user("b")]


def test_the_billing_line_of_claude_code_is_no_part_of_the_prompt() -> None:
    billing = "x-anthropic-billing-header: cc_version=2.1; cch=1a2b3;"
    rest = [{"role": "system", "content": "Be brief."}, user("a")]
    assert template_turns(system=[text(billing), text("Be brief.")], messages=[user("a")]) == rest
    assert template_turns(system=[text(billing)], messages=[user("a")]) == rest[1:]
    kept = f"{billing}\nBe brief."
    assert template_turns(system=kept, messages=[user("a")])[0]["content"] == kept


def test_turns_of_a_role_are_one_turn() -> None:
    turns = [user("a"), user("b"), assistant(text("c")), assistant(text("d")), user("e")]
    assert [(m["role"], m["content"]) for m in template_turns(messages=turns)] == [
        ("user", "a\nb"),
        ("assistant", "c\nd"),
        ("user", "e"),
    ]


def test_thoughts_calls_and_results() -> None:
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "x"}
    turns = [user("1+1?"), assistant(thought, text("Let me."), CALL), user([result(content="2"), text("And?")])]
    assert template_turns(messages=turns, tools=[TOOL]) == [
        user("1+1?"),
        {
            "role": "assistant",
            "content": "Let me.",
            "reasoning_content": "Hm.",
            "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "add", "arguments": {"a": "é"}}}],
        },
        {"role": "tool", "content": "2", "tool_call_id": "t1", "name": "add"},
        user("And?"),
    ]


@pytest.mark.parametrize(
    ("fields", "content"),
    [
        ({"content": [text("a"), text("b")]}, "a\nb"),
        ({}, ""),
        ({"content": []}, ""),
        ({"content": "no such file", "is_error": True}, "Error: no such file"),
        ({"content": "fine", "is_error": False}, "fine"),
    ],
)
def test_results(fields: dict[str, Any], content: str) -> None:
    assert template_turns(messages=[user("?"), assistant(CALL), user([result(**fields)])])[-1]["content"] == content


def test_the_assistants_last_words_are_continued() -> None:
    asked = task(messages=[user("?"), assistant(text("It is"))]).conversation
    assert asked.continue_last
    assert not asked.add_generation_prompt
    assert not task().conversation.continue_last


@pytest.mark.parametrize(
    ("choice", "must_call", "max_calls", "names"),
    [
        (None, False, None, ["add", "sub"]),
        ({"type": "auto"}, False, None, ["add", "sub"]),
        ({"type": "auto", "disable_parallel_tool_use": True}, False, 1, ["add", "sub"]),
        ({"type": "any"}, True, None, ["add", "sub"]),
        ({"type": "any", "disable_parallel_tool_use": True}, True, 1, ["add", "sub"]),
        ({"type": "tool", "name": "sub"}, True, 1, ["sub"]),
        ({"type": "none"}, False, 1, []),
    ],
)
def test_tool_choice(choice: Any, must_call: bool, max_calls: int | None, names: list[str]) -> None:
    asked = task(tools=[TOOL, TOOL | {"name": "sub", "strict": True}], tool_choice=choice)
    assert (asked.must_call, asked.max_calls) == (must_call, max_calls)
    assert [tool.name for tool in asked.conversation.tools] == names
    assert [tool.strict for tool in asked.conversation.tools] == [name == "sub" for name in names]
    assert all(tool.parameters == TOOL["input_schema"] for tool in asked.conversation.tools)


@pytest.mark.parametrize("kind", ["auto", "none"])
def test_no_tools_and_no_call_asked_for(kind: str) -> None:
    asked = task(tool_choice={"type": kind})
    assert (asked.must_call, asked.conversation.tools) == (False, ())


def test_sampling() -> None:
    fields = {"temperature": 0.5, "top_p": 0.9, "top_k": 3, "stop_sequences": ["x"] * 64, "stream": True}
    asked = task(**fields, metadata={"user_id": "u"}, service_tier="auto").options
    assert asked.sampling == {"temperature": 0.5, "top_p": 0.9, "top_k": 3}
    assert (asked.stream, asked.stop, asked.max_tokens) == (True, ("x",) * 64, 5)


@pytest.mark.parametrize(
    ("thinking", "variables", "thinks", "expected"),
    [
        ({"type": "disabled"}, {"enable_thinking"}, True, {"enable_thinking": False}),
        ({"type": "enabled", "budget_tokens": 1024}, {"thinking"}, True, {"thinking": True}),
        ({"type": "adaptive"}, {"enable_thinking", "thinking"}, True, {"enable_thinking": True}),
        (
            {"type": "enabled", "budget_tokens": 1024, "display": "summarized"},
            {"enable_thinking", "thinking_budget"},
            True,
            {"enable_thinking": True, "thinking_budget": 1024},
        ),
        ({"type": "enabled", "budget_tokens": 1024}, set(), True, {}),
        ({"type": "disabled"}, set(), False, {}),
        ({"type": "adaptive"}, set(), False, {}),
        ({"type": "adaptive"}, set(), True, {}),
        (None, {"enable_thinking"}, True, {}),
    ],
)
def test_thinking(thinking: Any, variables: set[str], thinks: bool, expected: dict[str, Any]) -> None:
    asked = task(thinking=thinking, max_tokens=2000, variables=frozenset(variables), thinks=thinks)
    assert asked.conversation.variables == expected


def test_output_config() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    config = {"effort": "max", "format": {"type": "json_schema", "schema": schema}}
    asked = task(output_config=config, variables=frozenset({"reasoning_effort"}))
    assert asked.conversation.reasoning_effort == "max"
    assert task(output_config=config).conversation.reasoning_effort is None
    assert asked.constraint is not None
    assert (asked.constraint.kind, asked.constraint.param) == ("json_schema", "output_config.format")


def test_fields_without_effect_are_accepted() -> None:
    task(
        cache_control={"type": "ephemeral", "scope": "global"},
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        output_config={"effort": "high"},
        thinking={"type": "adaptive", "display": "omitted"},
        speed="standard",
        service_tier="standard_only",
        container=None,
        mcp_servers=[],
        tools=[TOOL | {"type": "custom", "defer_loading": False, "allowed_callers": ["direct"], "input_examples": []}],
        messages=[user([text("a") | {"citations": []}]), assistant(CALL | {"caller": {"type": "direct"}}), user("b")],
    )


FIRST = "messages[0].content[0]"


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"max_tokens": None}, "max_tokens", "invalid_type"),
        ({"max_tokens": 0}, "max_tokens", "integer_below_min_value"),
        ({"max_tokens": "5"}, "max_tokens", "invalid_type"),
        ({"messages": []}, "messages", "empty_array"),
        ({"messages": [user([])]}, "messages[0].content", "empty_array"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [user([{"type": "image", "source": {}}])]}, f"{FIRST}.type", "unsupported_content"),
        ({"messages": [user([{"type": "document"}])]}, f"{FIRST}.type", "unsupported_content"),
        ({"messages": [user(["a"])]}, f"{FIRST}.type", "invalid_type"),
        ({"messages": [user([{"type": "text"}])]}, f"{FIRST}.text", "missing_required_parameter"),
        ({"messages": [user([text("a") | {"foo": 1}])]}, f"{FIRST}.foo", "unknown_parameter"),
        ({"messages": [user([text("a") | {"cache_control": "x"}])]}, f"{FIRST}.cache_control", "invalid_type"),
        ({"messages": [user([CALL])]}, f"{FIRST}.type", "invalid_value"),
        ({"messages": [user([result()])]}, f"{FIRST}.tool_use_id", "invalid_value"),
        ({"messages": [assistant(CALL), user([result(content=[{"type": "image"}])])]},
         "messages[1].content[0].content[0].type", "unsupported_content"),
        ({"messages": [assistant(CALL | {"input": "x"})]}, f"{FIRST}.input", "invalid_type"),
        ({"messages": [user("a"), assistant(CALL)]}, "messages", "invalid_value"),
        ({"messages": [assistant(text("a"))], "tools": [TOOL], "tool_choice": {"type": "any"}}, "messages",
         "invalid_value"),
        ({"system": [{"type": "image"}]}, "system[0].type", "unsupported_content"),
        ({"temperature": 1.1}, "temperature", "decimal_above_max_value"),
        ({"top_p": -0.1}, "top_p", "decimal_below_min_value"),
        ({"top_k": -1}, "top_k", "integer_below_min_value"),
        ({"stop_sequences": "x"}, "stop_sequences", "invalid_type"),
        ({"stop_sequences": [""]}, "stop_sequences[0]", "invalid_value"),
        ({"tools": [{"type": "web_search", "name": "a"}]}, "tools[0].type", "invalid_value"),
        ({"tools": [{"type": "web_search_20250305", "name": "a"}]}, "tools[0].type", "unsupported_parameter"),
        ({"tools": [{"name": "a"}]}, "tools[0].input_schema", "missing_required_parameter"),
        ({"tools": [TOOL | {"input_schema": {"type": "array"}}]}, "tools[0].input_schema", "invalid_value"),
        ({"tools": [TOOL | {"defer_loading": True}]}, "tools[0].defer_loading", "unsupported_parameter"),
        ({"tools": [TOOL, TOOL]}, "tools", "invalid_value"),
        ({"tool_choice": {"type": "any"}}, "tool_choice", "invalid_value"),
        ({"tool_choice": {"type": "required"}}, "tool_choice.type", "invalid_value"),
        ({"tool_choice": {"type": "tool"}, "tools": [TOOL]}, "tool_choice.name", "invalid_value"),
        ({"tool_choice": {"type": "tool", "name": "b"}, "tools": [TOOL]}, "tool_choice.name", "invalid_value"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens", "invalid_value"),
        ({"thinking": {"type": "enabled", "budget_tokens": 9}}, "thinking.budget_tokens", "integer_below_min_value"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking.budget_tokens", "invalid_value"),
        ({"thinking": {"type": "disabled"}, "thinks": True}, "thinking", "unsupported_parameter"),
        ({"output_config": {"format": {"type": "json"}}}, "output_config.format.type", "invalid_value"),
        ({"output_config": {"effort": "none"}}, "output_config.effort", "invalid_value"),
        ({"service_tier": "x"}, "service_tier", "invalid_value"),
        ({"speed": "slow"}, "speed", "invalid_value"),
        ({"thread": {"type": "new"}}, "thread", "thread_unsupported_request"),
        ({"container": "c"}, "container", "unsupported_parameter"),
        ({"mcp_servers": [{}]}, "mcp_servers", "unsupported_parameter"),
        ({"n": 2}, "n", "unknown_parameter"),
    ],
)  # fmt: skip
def test_refusals(fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(RequestError) as refused:
        task(**fields)
    assert (refused.value.param, refused.value.code) == (param, code)
    assert str(refused.value).startswith(param)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"messages": [user([CALL | {"inputs": {}}])]}, "messages[0].content[0].inputs {}; did you mean input?"),
        ({"messages": [user([text("a") | {"inputs": {}}])]}, "messages[0].content[0].inputs {}; remove it"),
        ({"output_config": {"formt": {}}}, "output_config.formt {}; did you mean format?"),
    ],
)
def test_the_error_of_a_misspelt_field_names_the_field_it_may_mean(fields: dict[str, Any], what: str) -> None:
    with pytest.raises(RequestError) as refused:
        task(**fields)
    assert str(refused.value) == what.format("is not a parameter of this endpoint")


def test_counting_takes_only_the_fields_of_a_prompt() -> None:
    body = {"model": "m", "messages": [user("a")], "tools": [TOOL], "system": "s"}
    counted = to_conversation(parse_body(CountTokensRequest, body), variables=frozenset(), thinks=False)
    assert counted.turns[0].role == "system"
    with pytest.raises(RequestError, match="max_tokens is not a parameter"):
        parse_body(CountTokensRequest, body | {"max_tokens": 5})
