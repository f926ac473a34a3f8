"""Each field of a conversation that affects the prompt changes it, on every chat route."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from fake_process import MODEL, FakeServer, fake_server

from infrs.api.chat.convert import to_conversation
from infrs.api.chat.prompt import ignored_variables, template_variables
from infrs.api.chat.request import parse_chat_request

TEMPLATE = (
    "{% for tool in tools or [] %}tool {{ tool.function.name }}\n{% endfor %}"
    "{% if reasoning_effort is defined %}effort {{ reasoning_effort }}\n{% endif %}"
    "{% if enable_thinking is defined %}thinking {{ enable_thinking }}\n{% endif %}"
    "{% for message in messages %}{{ message.role }}{% if message.name %} {{ message.name }}{% endif %}: "
    "{{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
ASK = {"role": "user", "content": "echo"}  # which the fake engine answers with its prompt
SYSTEM = {"role": "system", "content": "Be."}
SAID = {"role": "assistant", "content": "It is"}
PLAIN = "user: echo\nassistant:"
FUNCTION = {"name": "clock", "parameters": {"type": "object", "properties": {}}}
TOOL = {"type": "function", "function": FUNCTION}


@pytest.fixture(scope="module")
def templated() -> Iterator[FakeServer]:
    with fake_server(template=TEMPLATE, server={"access_log": False}) as running:
        yield running


def by_apply_template(server: FakeServer, **fields: Any) -> str:
    return str(server.post("/apply-template", **fields).json["prompt"])


def by_tokenize(server: FakeServer, **fields: Any) -> str:
    return bytes(server.post("/tokenize", **fields).json["tokens"]).decode()


def by_chat(server: FakeServer, **fields: Any) -> str:
    answer = server.post("/v1/chat/completions", model=MODEL, max_tokens=1, **fields)
    return str(answer.json["choices"][0]["message"]["content"])


@pytest.mark.parametrize("shown", [by_apply_template, by_tokenize, by_chat])
@pytest.mark.parametrize(
    ("fields", "prompt"),
    [
        ({}, PLAIN),
        ({"messages": [{"role": "system", "content": "Be brief."}, ASK]}, f"system: Be brief.\n{PLAIN}"),
        ({"messages": [ASK | {"name": "planner_1"}]}, "user planner_1: echo\nassistant:"),
        (
            {"messages": [SYSTEM | {"name": "s"}, SAID | {"name": "a"}, ASK]},
            f"system s: Be.\nassistant a: It is\n{PLAIN}",
        ),
        ({"add_generation_prompt": False}, "user: echo\n"),
        ({"messages": [ASK, SAID]}, "user: echo\nassistant: It is\nassistant:"),
        ({"messages": [ASK, SAID], "continue_final_message": True}, "user: echo\nassistant: It is"),
        ({"chat_template_kwargs": {"enable_thinking": False}}, f"thinking False\n{PLAIN}"),
        ({"reasoning_effort": "low"}, f"effort low\n{PLAIN}"),
        ({"tools": [TOOL]}, f"tool clock\n{PLAIN}"),
        ({"tools": [TOOL], "tool_choice": "none"}, PLAIN),
        ({"functions": [FUNCTION]}, f"tool clock\n{PLAIN}"),
        ({"functions": [FUNCTION], "function_call": "none"}, PLAIN),
        ({"tools": [TOOL], "parallel_tool_calls": False}, f"tool clock\n{PLAIN}"),  # of the answer, not of the prompt
    ],
    ids=str,
)
def test_a_conversation_reaches_the_template(
    templated: FakeServer, shown: Any, fields: dict[str, Any], prompt: str
) -> None:
    assert shown(templated, **{"messages": [ASK], **fields}) == prompt


CLOCK = {"name": "clock", "input_schema": FUNCTION["parameters"]}


@pytest.mark.parametrize(
    ("fields", "prompt"),
    [
        ({}, PLAIN),
        ({"messages": [ASK, SAID]}, "user: echo\nassistant: It is"),
        ({"system": "Be brief."}, f"system: Be brief.\n{PLAIN}"),
        ({"thinking": {"type": "disabled"}}, f"thinking False\n{PLAIN}"),
        ({"output_config": {"effort": "high"}}, f"effort high\n{PLAIN}"),
        ({"tools": [CLOCK]}, f"tool clock\n{PLAIN}"),
        ({"tools": [CLOCK], "tool_choice": {"type": "none"}}, PLAIN),
        ({"cache_control": {"type": "ephemeral"}}, PLAIN),  # prompts are cached without being asked to
    ],
    ids=str,
)
def test_a_message_reaches_the_template(templated: FakeServer, fields: dict[str, Any], prompt: str) -> None:
    asked = {"model": MODEL, "messages": [ASK], **fields}
    answer = templated.post("/v1/messages", max_tokens=1, **asked)
    assert answer.json["content"] == [{"type": "text", "text": prompt}]
    assert templated.post("/v1/messages/count_tokens", **asked).json == {"input_tokens": len(prompt)}


@pytest.mark.parametrize(
    ("fields", "prompt"),
    [
        ({}, PLAIN),
        ({"input": [{"role": "developer", "content": "Be brief."}, ASK]}, f"system: Be brief.\n{PLAIN}"),
        ({"instructions": "Be brief."}, f"system: Be brief.\n{PLAIN}"),
        ({"reasoning": {"effort": "low"}}, f"effort low\n{PLAIN}"),
        ({"tools": [{"type": "function", **FUNCTION}]}, f"tool clock\n{PLAIN}"),
        ({"tools": [{"type": "function", **FUNCTION}], "tool_choice": "none"}, PLAIN),
    ],
    ids=str,
)
def test_a_response_reaches_the_template(templated: FakeServer, fields: dict[str, Any], prompt: str) -> None:
    answer = templated.post("/v1/responses", model=MODEL, **{"input": "echo", "max_output_tokens": 1, **fields}).json
    assert answer["output"][0]["content"][0]["text"] == prompt
    assert answer["reasoning"]["effort"] == fields.get("reasoning", {}).get("effort")


@pytest.mark.parametrize(
    ("thinks", "variables", "effort", "passed", "ignored"),
    [
        (True, {"reasoning_effort", "enable_thinking"}, "low", {"reasoning_effort": "low"}, []),
        (False, {"reasoning_effort"}, "low", {"reasoning_effort": "low"}, []),
        (False, set(), "low", {}, ["reasoning_effort"]),
        (True, set(), "low", {}, ["reasoning_effort"]),
        (True, {"enable_thinking"}, "low", {}, ["reasoning_effort"]),
        (True, {"enable_thinking"}, "none", {"enable_thinking": False}, []),
        (True, {"thinking"}, "none", {"thinking": False}, []),
        (True, set(), "none", {}, ["reasoning_effort"]),
        (False, {"enable_thinking"}, "none", {}, []),  # nothing to turn off
        (False, set(), "none", {}, []),
    ],
)
def test_an_effort_goes_to_a_template_that_reads_it_and_else_is_ignored(
    thinks: bool, variables: set[str], effort: str, passed: dict[str, object], ignored: list[str]
) -> None:
    body = parse_chat_request({"model": MODEL, "messages": [ASK], "reasoning_effort": effort})
    conversation = to_conversation(body)
    model: Any = SimpleNamespace(
        model_id=MODEL, thinks=thinks, chat_format=SimpleNamespace(variables=frozenset(variables))
    )
    assert template_variables(model, conversation) == passed
    assert ignored_variables(model, conversation) == ignored
