"""Tools, structured output and reasoning through OpenAI's client, with and without streaming."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import openai
import pytest
from fake_process import MODEL, FakeServer, fake_server
from openai import OpenAI
from pydantic import BaseModel

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "days": {"type": "integer", "maximum": 99}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
WEATHER = {"name": "weather", "description": "The weather.", "parameters": CITY}
CLOCK = {"name": "clock", "parameters": {"type": "object", "properties": {}}}
TOOLS = [{"type": "function", "function": WEATHER}, {"type": "function", "function": CLOCK}]
CALLS = (
    'Let me see.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Köln", "days": 2}}\n</tool_call>\n'
    '<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>'
)


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    with fake_server(script=Path(__file__).parent / "scripted_server.py") as running:
        yield running


@pytest.fixture
def client(server: FakeServer) -> OpenAI:
    return OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="unused", max_retries=0, timeout=30)


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def whole(client: OpenAI, messages: Any, **fields: Any) -> Any:
    return client.chat.completions.create(model=MODEL, messages=messages, **fields).choices[0]


def streamed(client: OpenAI, messages: Any, **fields: Any) -> dict[str, Any]:
    """Return the joined pieces of a stream, with the number of pieces of arguments."""
    text, reasoning, reason, num_pieces = "", "", None, 0
    calls: dict[int, dict[str, str]] = {}
    for chunk in client.chat.completions.create(model=MODEL, messages=messages, stream=True, **fields):
        delta = chunk.choices[0].delta
        text += delta.content or ""
        reasoning += getattr(delta, "reasoning_content", None) or ""
        for call in delta.tool_calls or ():
            known = calls.setdefault(call.index, {"name": "", "arguments": "", "id": ""})
            known["id"] += call.id or ""
            known["name"] += call.function.name or ""
            known["arguments"] += call.function.arguments or ""
            num_pieces += bool(call.function.arguments)
        reason = chunk.choices[0].finish_reason or reason
    return {"text": text, "reasoning": reasoning, "calls": list(calls.values()), "reason": reason, "n": num_pieces}


def same(client: OpenAI, messages: Any, **fields: Any) -> Any:
    """Return the answer without streaming, after a check that the streamed one is equal."""
    answer, pieces = whole(client, messages, **fields), streamed(client, messages, **fields)
    assert pieces["text"] == (answer.message.content or "")
    assert pieces["reasoning"] == (getattr(answer.message, "reasoning_content", None) or "")
    whole_calls = [(call.function.name, call.function.arguments) for call in answer.message.tool_calls or ()]
    assert [(call["name"], call["arguments"]) for call in pieces["calls"]] == whole_calls
    assert all(call["id"].startswith("call_") for call in pieces["calls"])
    assert pieces["reason"] == answer.finish_reason
    return answer


def test_calls_are_apart_from_the_text(client: OpenAI) -> None:
    answer = same(client, user(f"say:{CALLS}"), tools=TOOLS)
    assert answer.finish_reason == "tool_calls"
    assert answer.message.content == "Let me see."
    assert [call.function.name for call in answer.message.tool_calls] == ["weather", "clock"]
    assert json.loads(answer.message.tool_calls[0].function.arguments) == {"city": "Köln", "days": 2}
    assert len({call.id for call in answer.message.tool_calls}) == 2
    assert streamed(client, user(f"say:{CALLS}"), tools=TOOLS)["n"] > 5


def test_parallel_tool_calls_false_allows_one_call(client: OpenAI) -> None:
    answer = same(client, user(f"say:{CALLS}"), tools=TOOLS, parallel_tool_calls=False)
    assert [call.function.name for call in answer.message.tool_calls] == ["weather"]


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_a_call_cut_before_its_arguments_has_null_content_and_can_go_back(client: OpenAI, choice: str) -> None:
    call = CALLS[CALLS.index("<tool_call>") :]
    answer = whole(client, user(f"say:{call}"), tools=TOOLS, tool_choice=choice, max_tokens=2)
    assert (answer.finish_reason, answer.message.content, answer.message.tool_calls) == ("length", None, None)
    history = [*user("Weather?"), answer.message, *user("say:Again.")]
    assert whole(client, history, tools=TOOLS).message.content == "Again."


@pytest.mark.parametrize("fields", [{}, {"tools": TOOLS, "tool_choice": "none"}])
def test_without_tools_it_is_text(client: OpenAI, fields: dict[str, Any]) -> None:
    answer = same(client, user(f"say:{CALLS}"), **fields)
    assert (answer.finish_reason, answer.message.content, answer.message.tool_calls) == ("stop", CALLS, None)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_call_that_must_be_made_is_made(client: OpenAI, choice: Any) -> None:
    for number in range(5):
        answer = same(client, user(f"say:no! {number * 'x'}"), tools=TOOLS, tool_choice=choice)
        assert answer.finish_reason == "tool_calls"
        assert answer.message.content is None
        assert answer.message.tool_calls
        for call in answer.message.tool_calls:
            assert choice == "required" or call.function.name == "weather"
            schema = CITY if call.function.name == "weather" else CLOCK["parameters"]
            jsonschema.validate(json.loads(call.function.arguments), schema)
        if choice != "required":
            assert len(answer.message.tool_calls) == 1


def test_strict_tools_bind_arguments_only(client: OpenAI) -> None:
    strict = [{"type": "function", "function": {**WEATHER, "strict": True}}]
    answer = same(client, user("say:whatever"), tools=strict)
    assert answer.finish_reason in ("stop", "tool_calls")


def test_results_of_calls_get_an_answer(client: OpenAI) -> None:
    first = whole(client, user(f"say:{CALLS}"), tools=TOOLS).message
    results = [{"role": "tool", "tool_call_id": call.id, "content": "sunny"} for call in first.tool_calls]
    answer = same(client, [*user("Weather?"), first, *results, *user("say:It is sunny.")], tools=TOOLS)
    assert (answer.message.content, answer.finish_reason) == ("It is sunny.", "stop")


def test_legacy_functions_get_a_function_call(client: OpenAI) -> None:
    functions = [WEATHER, CLOCK]
    answer = whole(client, user(f"say:{CALLS}"), functions=functions)
    assert answer.finish_reason == "function_call"
    assert answer.message.function_call.name == "weather"
    assert answer.message.tool_calls is None
    forced = whole(client, user("say:no"), functions=functions, function_call={"name": "clock"})
    assert forced.message.function_call.name == "clock"
    history = [answer.message, {"role": "function", "name": "weather", "content": "sunny"}]
    assert whole(client, [*user("?"), *history, *user("say:ok")], functions=functions).message.content == "ok"


@pytest.mark.parametrize(
    ("text", "reasoning", "content"),
    [
        ("say:<think>\nHm, 2+2.\n</think>\n\nIt is 4.", "Hm, 2+2.", "It is 4."),
        ("say:It is 4.", None, "It is 4."),
        ("say:<think>Hm</thi", "Hm</thi", ""),
    ],
)
def test_reasoning_is_apart_from_the_text(client: OpenAI, text: str, reasoning: str | None, content: str) -> None:
    answer = same(client, user(text))
    assert (getattr(answer.message, "reasoning_content", None), answer.message.content) == (reasoning, content)
    again = [*user("?"), {"role": "assistant", "content": "4", "reasoning_content": "Hm"}, *user("say:ok")]
    assert whole(client, again).message.content == "ok"


def test_reasoning_tokens_are_counted(client: OpenAI) -> None:
    for text, num_tokens in (("<think>Hm.</think>Four.", 6), ("Four.", 0), ("<think>Hm, so it", 6)):
        answer = client.chat.completions.create(model=MODEL, messages=user(f"say:{text}"))  # type: ignore[arg-type]
        counts = [answer.usage]
        for chunk in client.chat.completions.create(
            model=MODEL,
            messages=user(f"say:{text}"),  # type: ignore[arg-type]
            stream=True,
            stream_options={"include_usage": True, "continuous_usage_stats": True},  # type: ignore[typeddict-unknown-key]
        ):
            counts.append(chunk.usage)
        for usage in (counts[0], counts[-1], counts[-2]):
            assert usage is not None
            assert usage.completion_tokens_details is not None
            assert usage.completion_tokens_details.reasoning_tokens == num_tokens


def test_a_schema_holds_where_the_prompt_opens_a_reasoning_block(client: OpenAI) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}
    answer = same(client, user("say: <think>"), response_format=schema)
    jsonschema.validate(json.loads(answer.message.content), CITY)


@pytest.mark.parametrize(
    ("fields", "check"),
    [
        ({"response_format": {"type": "json_object"}}, lambda text: isinstance(json.loads(text), dict)),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "c", "schema": CITY, "strict": True}}},
            lambda text: jsonschema.validate(json.loads(text), CITY) is None,
        ),
        ({"extra_body": {"guided_json": CITY}}, lambda text: jsonschema.validate(json.loads(text), CITY) is None),
        ({"extra_body": {"json_schema": CITY}}, lambda text: jsonschema.validate(json.loads(text), CITY) is None),
        ({"extra_body": {"guided_regex": "[0-9]{3}-[0-9]{2}"}}, lambda text: len(text) == 6 and text[3] == "-"),
        ({"extra_body": {"guided_choice": ["yes", "no"]}}, lambda text: text in ("yes", "no")),
        ({"extra_body": {"guided_grammar": 'start: "a" /[0-9]/'}}, lambda text: text[0] == "a" and len(text) == 2),
        ({"extra_body": {"grammar": 'root ::= "left" | "right"'}}, lambda text: text in ("left", "right")),
    ],
)
def test_structured_output_follows_its_schema(client: OpenAI, fields: dict[str, Any], check: Any) -> None:
    for number in range(4):
        answer = same(client, user(f"say:nonsense{number * '!'}"), **fields)
        assert answer.finish_reason == "stop"
        assert check(answer.message.content)


def test_an_answer_is_a_call_or_of_its_form(client: OpenAI) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}
    reasons = set()
    for number in range(12):
        opened = " <think>" * (number % 2)
        answer = same(client, user(f"say:{number * 'x'}{opened}"), tools=TOOLS, response_format=form)
        reasons.add(answer.finish_reason)
        if answer.finish_reason == "stop":
            assert not answer.message.tool_calls
            jsonschema.validate(json.loads(answer.message.content), CITY)
        for call in answer.message.tool_calls or ():
            schema = CITY if call.function.name == "weather" else CLOCK["parameters"]
            jsonschema.validate(json.loads(call.function.arguments), schema)
    assert reasons == {"stop", "tool_calls"}
    for choice, reason in (("required", "tool_calls"), ("none", "stop")):
        forced = whole(client, user("say:x"), tools=TOOLS, tool_choice=choice, response_format=form)
        assert forced.finish_reason == reason


def test_the_parse_helper_returns_typed_answers(client: OpenAI) -> None:
    class Place(BaseModel):
        city: str
        days: int

    parsed = client.chat.completions.parse(model=MODEL, messages=user("say:x"), response_format=Place)  # type: ignore[arg-type]
    assert isinstance(parsed.choices[0].message.parsed, Place)


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"response_format": {"type": "json"}}, "response_format.type", "invalid_value"),
        ({"response_format": {}}, "response_format.type", "missing_required_parameter"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing_required_parameter"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "response_format.json_schema.schema",
            "missing_required_parameter",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"not": {}}}}},
            "response_format",
            "unsupported_schema",
        ),
        ({"guided_choice": [""]}, "guided_choice[0]", "invalid_value"),
        ({"guided_regex": "(?<=x)"}, "guided_regex", "invalid_grammar"),
        ({"grammar": "root ::= ("}, "grammar", "invalid_grammar"),
        ({"guided_json": {}, "guided_regex": "a"}, "guided_regex", "invalid_value"),
        ({"guided_regex": "a", "ignore_eos": True}, "ignore_eos", "invalid_value"),
        ({"guided_regex": "a", "min_tokens": 2}, "min_tokens", "invalid_value"),
        ({"tools": TOOLS, "guided_choice": ["<x", "y"]}, "guided_choice", "invalid_value"),  # begins like a call
        ({"tools": TOOLS, "tool_choice": "always"}, "tool_choice", "invalid_value"),
        ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
        (
            {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "other"}}},
            "tool_choice",
            "invalid_value",
        ),
        ({"tools": [*TOOLS, TOOLS[0]]}, "tools", "invalid_value"),
        ({"tools": [{"type": "code"}]}, "tools[0].type", "invalid_value"),
        ({"tools": TOOLS, "functions": [WEATHER]}, "functions", "invalid_value"),
        ({"tools": TOOLS, "function_call": "auto"}, "function_call", "invalid_value"),
        ({"functions": [WEATHER], "tool_choice": "auto"}, "tool_choice", "invalid_value"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "strict": True, "parameters": {"not": {}}}}]},
            "tools",
            "unsupported_schema",
        ),
    ],
)
def test_an_invalid_request_is_refused(client: OpenAI, fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=MODEL, messages=user("say:x"), extra_body=fields)  # type: ignore[arg-type]
    assert (refused.value.param, refused.value.code) == (param, code)
