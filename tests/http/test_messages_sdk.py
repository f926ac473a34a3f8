"""Anthropic's client reads the same message from `/v1/messages` with and without streaming."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import jsonschema
import pytest
from anthropic import Anthropic
from anthropic.types import Message
from fake_process import MODEL, FakeServer, fake_server

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "days": {"type": "integer", "maximum": 99}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOLS: Any = [
    {"name": "weather", "description": "The weather.", "input_schema": CITY},
    {"name": "clock", "input_schema": {"type": "object", "properties": {}}},
]
CALLS = (
    'Let me see.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Köln", "days": 2}}\n</tool_call>\n'
    '<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>'
)


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    with fake_server(script=Path(__file__).parent / "scripted_server.py", server={"access_log": False}) as running:
        yield running


@pytest.fixture
def client(server: FakeServer) -> Anthropic:
    return sdk(server)


def sdk(server: FakeServer) -> Anthropic:
    return Anthropic(base_url=f"http://127.0.0.1:{server.port}", api_key="unused", max_retries=0, timeout=30)


def user(content: Any) -> Any:
    return [{"role": "user", "content": content}]


def shown(answer: Message) -> dict[str, Any]:
    """Return a message without its ids and the counts that a second prompt changes."""
    message = answer.model_dump(exclude_none=True)
    assert message.pop("id").startswith("msg_")
    for block in message["content"]:
        assert block.pop("id", "toolu_").startswith("toolu_")
    usage = message.pop("usage")
    message["tokens"] = usage["input_tokens"] + usage["cache_read_input_tokens"], usage["output_tokens"]
    message["thinking_tokens"] = usage["output_tokens_details"]["thinking_tokens"]
    return message


def same(client: Anthropic, messages: Any, max_tokens: int = 2000, **fields: Any) -> Message:
    """Return the answer without streaming, after a check that the streamed one is equal."""
    answer = client.messages.create(model=MODEL, max_tokens=max_tokens, messages=messages, **fields)
    with client.messages.stream(model=MODEL, max_tokens=max_tokens, messages=messages, **fields) as stream:
        final = stream.get_final_message()
    assert shown(final) == shown(answer)
    return answer


def kinds(answer: Message) -> list[str]:
    return [block.type for block in answer.content]


def test_text_of_an_answer_is_one_block(client: Anthropic) -> None:
    answer = same(client, user("say:Hello, Köln 😀."))
    assert (answer.content[0].text, answer.stop_reason, answer.stop_sequence) == ("Hello, Köln 😀.", "end_turn", None)
    assert (answer.role, answer.type, answer.model) == ("assistant", "message", MODEL)
    with client.messages.stream(model=MODEL, max_tokens=99, messages=user("say:Hello.")) as stream:
        assert "".join(stream.text_stream) == "Hello."


def test_max_tokens_limits_the_answer(client: Anthropic) -> None:
    answer = same(client, user("say:Hello, world."), max_tokens=2)
    assert (answer.content[0].text, answer.stop_reason, answer.usage.output_tokens) == ("Hello,", "max_tokens", 2)


def test_an_empty_answer_has_no_content(client: Anthropic) -> None:
    answer = same(client, user("say:"))
    assert (answer.content, answer.stop_reason) == ([], "end_turn")


def test_calls_are_blocks_after_the_text(client: Anthropic) -> None:
    answer = same(client, user(f"say:{CALLS}"), tools=TOOLS)
    assert answer.stop_reason == "tool_use"
    assert kinds(answer) == ["text", "tool_use", "tool_use"]
    text, weather, clock = answer.content
    assert text.text == "Let me see."
    assert (weather.name, weather.input) == ("weather", {"city": "Köln", "days": 2})
    assert (clock.name, clock.input) == ("clock", {})
    one = same(
        client, user(f"say:{CALLS}"), tools=TOOLS, tool_choice={"type": "auto", "disable_parallel_tool_use": True}
    )
    assert kinds(one) == ["text", "tool_use"]
    none = same(client, user(f"say:{CALLS}"), tools=TOOLS, tool_choice={"type": "none"})
    assert kinds(none) == ["text"]


def test_a_call_cut_by_max_tokens_has_partial_input(client: Anthropic) -> None:
    """The input ends where the answer does, as the client reads an incomplete stream."""
    for max_tokens in range(15, 30):
        answer = same(client, user(f"say:{CALLS}"), max_tokens=max_tokens, tools=TOOLS)
        assert answer.stop_reason == "max_tokens"
    assert kinds(answer) == ["text", "tool_use"]


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "weather"}])
def test_a_call_that_must_be_made_is_made(client: Anthropic, choice: Any) -> None:
    for number in range(4):
        answer = same(client, user(f"say:no! {number * 'x'}"), tools=TOOLS, tool_choice=choice)
        assert answer.stop_reason == "tool_use"
        for block in answer.content:
            assert block.type == "tool_use"
            assert choice["type"] == "any" or block.name == "weather"
            jsonschema.validate(block.input, CITY if block.name == "weather" else {})


def test_results_of_calls_get_an_answer(client: Anthropic) -> None:
    first = client.messages.create(model=MODEL, max_tokens=500, messages=user(f"say:{CALLS}"), tools=TOOLS)
    results = [
        {"type": "tool_result", "tool_use_id": block.id, "content": "sunny"}
        for block in first.content
        if block.type == "tool_use"
    ]
    turns = [*user("Weather?"), first.to_param(), *user([*results, {"type": "text", "text": "say:It is sunny."}])]
    answer = same(client, turns, tools=TOOLS)
    assert (answer.content[0].text, answer.stop_reason) == ("It is sunny.", "end_turn")


def test_thoughts_are_blocks_of_their_own(client: Anthropic) -> None:
    answer = same(client, user(f"say:<think>\nHm, 2+2.\n</think>\n\nIt is 4.\n{CALLS}"), tools=TOOLS)
    assert kinds(answer) == ["thinking", "text", "tool_use", "tool_use"]
    assert answer.content[0].thinking == "Hm, 2+2."
    details = answer.usage.output_tokens_details
    assert details is not None
    assert 8 <= details.thinking_tokens <= 11  # of three characters each: the block and its tags
    calls = [block for block in answer.content if block.type == "tool_use"]
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "ok"} for call in calls]
    again = same(client, [*user("?"), answer.to_param(), *user(results), *user("say:ok")])
    assert again.content[0].text == "ok"


def test_an_answer_with_a_schema_validates(client: Anthropic) -> None:
    config: Any = {"format": {"type": "json_schema", "schema": CITY}}
    for number in range(3):
        answer = same(client, user(f"say:nonsense{number * '!'}"), output_config=config)
        jsonschema.validate(json.loads(answer.content[0].text), CITY)


def test_counted_tokens_equal_those_of_the_answer(client: Anthropic) -> None:
    fields: Any = {"model": MODEL, "messages": user("say:Hello."), "system": "Be brief.", "tools": TOOLS}
    counted = client.messages.count_tokens(**fields)
    answer = client.messages.create(**fields, max_tokens=1)
    usage = answer.usage
    assert counted.input_tokens == usage.input_tokens + (usage.cache_read_input_tokens or 0)
    assert counted.input_tokens > client.messages.count_tokens(model=MODEL, messages=user("say:Hello.")).input_tokens


def test_the_sdk_raises_the_error_of_each_status(client: Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as missing:
        client.messages.create(model="other", max_tokens=5, messages=user("a"))
    assert (missing.value.type, missing.value.error_code) == ("not_found_error", "model_not_found")
    assert missing.value.request_id
    image: Any = [{"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}]
    with pytest.raises(anthropic.BadRequestError, match=r"messages\[0\]\.content\[0\]\.type: 'image'") as refused:
        client.messages.create(model=MODEL, max_tokens=5, messages=user(image))
    assert (refused.value.type, refused.value.error_code) == ("invalid_request_error", "unsupported_content")
    strict: Any = [{"name": "f", "strict": True, "input_schema": {"type": "object", "not": {}}}]
    with pytest.raises(anthropic.BadRequestError, match="unsupported_schema"):
        client.messages.create(model=MODEL, max_tokens=5, messages=user("a"), tools=strict)
    with pytest.raises(anthropic.BadRequestError, match="max_tokens is not a parameter"):
        client.messages.count_tokens(model=MODEL, messages=user("a"), extra_body={"max_tokens": 5})


def test_a_failing_engine_raises_an_error() -> None:
    with fake_server(rows=1, max_queue=0, interval=0.01, server={"access_log": False}) as running:
        client = sdk(running)
        with pytest.raises(anthropic.InternalServerError) as failed:
            client.messages.create(model=MODEL, max_tokens=9, messages=user("boom"))
        assert failed.value.type == "api_error"
        boom = client.messages.stream(model=MODEL, max_tokens=9, messages=user("boom"))
        with boom as stream, pytest.raises(anthropic.APIStatusError, match="see its log") as cut:
            stream.get_final_message()
        assert cut.value.type == "api_error"
        with client.messages.stream(model=MODEL, max_tokens=500, messages=user("a")) as busy:
            next(busy.text_stream)
            with pytest.raises(anthropic.RateLimitError) as full:
                client.messages.create(model=MODEL, max_tokens=9, messages=user("a"))
        assert full.value.response.headers["retry-after"] == "1"
