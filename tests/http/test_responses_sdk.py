"""`/v1/responses` through OpenAI's client, with and without streaming."""

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
from openai.types.responses import Response
from pydantic import BaseModel, TypeAdapter
from test_tools_sdk import CALLS, CITY

WEATHER = {"type": "function", "name": "weather", "description": "The weather.", "parameters": CITY, "strict": True}
CLOCK = {"type": "function", "name": "clock", "parameters": {"type": "object", "properties": {}}, "strict": False}
TOOLS: Any = [WEATHER, CLOCK]
THOUGHT = "say:<think>\nHm, 2+2.\n</think>\n\nIt is 4."
SCRIPT = Path(__file__).parent / "scripted_server.py"
QUIET = {"access_log": False}


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    with fake_server(script=SCRIPT, server=QUIET) as running:
        yield running


def client_of(server: FakeServer, key: str = "unused") -> OpenAI:
    return OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key=key, max_retries=0, timeout=30)


@pytest.fixture
def client(server: FakeServer) -> Iterator[OpenAI]:
    with client_of(server) as sdk:
        yield sdk


def comparable(response: Any) -> dict[str, Any]:
    """Return a response without its ids and times, which change each time."""
    shown = response if isinstance(response, dict) else response.to_dict()
    for name in ("id", "created_at", "completed_at"):
        assert shown.pop(name)
    for item in shown["output"]:
        assert item.pop("id")
        item.pop("call_id", None)
    shown["usage"].pop("input_tokens_details")
    return dict(shown)


def joined(events: list[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the joined deltas of a stream, by item, and the final response."""
    texts: dict[str, dict[str, Any]] = {}
    open_items: list[str] = []
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[0].response.status == events[1].response.status == "in_progress"
    assert events[0].response.output == []
    for event in events[2:-1]:
        kind = event.type.removeprefix("response.")
        match kind:
            case "output_item.added":
                assert open_items == []
                assert event.item.status == "in_progress"
                assert event.output_index == len(texts)
                texts[event.item.id] = {"type": event.item.type, "text": ""}
                open_items.append(event.item.id)
            case "output_item.done":
                open_items.remove(event.item.id)
                texts[event.item.id]["done"] = event.item.to_dict()
            case "content_part.added":
                assert event.part.text == ""
                assert event.item_id in open_items
            case "content_part.done":
                assert event.part.text == texts[event.item_id]["text"]
            case "function_call_arguments.delta" | "output_text.delta" | "reasoning_text.delta":
                assert event.item_id in open_items
                texts[event.item_id]["text"] += event.delta
            case "function_call_arguments.done":
                assert event.arguments == texts[event.item_id]["text"]
            case "output_text.done" | "reasoning_text.done":
                assert event.text == texts[event.item_id]["text"]
            case _:
                raise AssertionError(f"an event {event.type}")
    final = events[-1].response
    assert events[-1].type == f"response.{final.status}"
    assert open_items == []
    assert [item.to_dict() for item in final.output] == [item["done"] for item in texts.values()]
    return texts, final.to_dict()


def same(client: OpenAI, say: str, **fields: Any) -> Response:
    """Return the response without streaming, after a check that the streamed one is equal."""
    whole = client.responses.create(model=MODEL, input=say, **fields)
    events = list(client.responses.create(model=MODEL, input=say, stream=True, **fields))
    texts, final = joined(events)
    assert comparable(final) == comparable(whole.model_copy(deep=True))
    for item, shown in zip(whole.output, texts.values(), strict=True):
        if item.type == "function_call":
            assert item.arguments == shown["text"]
        elif item.type in ("message", "reasoning"):
            assert "".join(part.text for part in item.content or () if hasattr(part, "text")) == shown["text"]
    return whole


def test_an_answer_is_one_message(client: OpenAI) -> None:
    answer = same(client, "say:It is 4.", temperature=0.5, metadata={"a": "b"}, user="u", instructions="Be brief.")
    assert answer.output_text == "It is 4."
    assert (answer.status, answer.temperature, answer.metadata) == ("completed", 0.5, {"a": "b"})
    assert (answer.instructions, answer.user, answer.store) == ("Be brief.", "u", True)  # type: ignore[attr-defined]
    assert answer.usage is not None
    prompt = "system: Be brief.\nuser: say:It is 4."
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (len(prompt), 3)
    assert answer.usage.total_tokens == len(prompt) + 3
    assert answer.usage.output_tokens_details.reasoning_tokens == 0
    TypeAdapter(Response).validate_python(answer.to_dict())  # as strictly as the SDK's types say


def test_reasoning_is_an_item_of_its_own(client: OpenAI) -> None:
    answer = same(client, THOUGHT)
    thought, message = answer.output
    assert thought.type == "reasoning"
    assert thought.content is not None
    assert thought.content[0].text == "Hm, 2+2."
    assert message.type == "message"
    assert answer.output_text == "It is 4."
    assert answer.usage is not None
    num_thought = -(-(THOUGHT.index("</think>") + len("</think>") - len("say:")) // 3)
    assert answer.usage.output_tokens_details.reasoning_tokens == num_thought


def test_calls_are_items_of_their_own(client: OpenAI) -> None:
    answer = same(client, f"say:{CALLS}", tools=[{**WEATHER, "strict": False}, CLOCK])
    message, weather, clock = answer.output
    assert message.type == "message"
    assert (answer.output_text, answer.status) == ("Let me see.", "completed")
    assert weather.type == clock.type == "function_call"
    assert (weather.name, json.loads(weather.arguments)) == ("weather", {"city": "Köln", "days": 2})
    assert (clock.name, clock.status) == ("clock", "completed")
    one = same(client, f"say:{CALLS}", tools=[{**WEATHER, "strict": False}, CLOCK], parallel_tool_calls=False)
    assert [item.type for item in one.output] == ["message", "function_call"]


ALLOWED = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "clock"}]}


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("required", {"weather", "clock"}),
        ({"type": "function", "name": "weather"}, {"weather"}),
        (ALLOWED, {"clock"}),
    ],
    ids=["required", "named", "allowed"],
)
def test_a_call_that_must_be_made_is_made(client: OpenAI, choice: Any, names: set[str]) -> None:
    for number in range(3):
        answer = same(client, f"say:no! {number * 'x'}", tools=TOOLS, tool_choice=choice)
        assert answer.output
        for item in answer.output:
            assert item.type == "function_call"
            assert item.name in names
            if item.name == "weather":
                jsonschema.validate(json.loads(item.arguments), CITY)


@pytest.mark.parametrize("stored", [True, False])
def test_results_of_calls_get_an_answer(client: OpenAI, stored: bool) -> None:
    tools: Any = [{**WEATHER, "strict": False}, CLOCK]
    first = client.responses.create(model=MODEL, input=f"say:{CALLS}", tools=tools, store=stored)
    results: list[Any] = [
        {"type": "function_call_output", "call_id": item.call_id, "output": "sunny"}
        for item in first.output
        if item.type == "function_call"
    ]
    results.append({"role": "user", "content": "say:It is sunny."})
    if stored:
        answer = client.responses.create(model=MODEL, input=results, previous_response_id=first.id, tools=tools)
    else:
        history: list[Any] = [{"role": "user", "content": f"say:{CALLS}"}, *first.output, *results]
        answer = client.responses.create(model=MODEL, input=history, tools=tools)
    assert answer.output_text == "It is sunny."


def test_a_second_turn_continues_the_first(client: OpenAI) -> None:
    first = client.responses.create(model=MODEL, input="say:Four.", instructions="Be brief.")
    second = client.responses.create(model=MODEL, input="say:Five.", previous_response_id=first.id)
    prompt = "user: say:Four.\nassistant: Four.\nuser: say:Five."  # the instructions are not carried over
    assert second.usage is not None
    assert (second.usage.input_tokens, second.previous_response_id) == (len(prompt), first.id)
    client.responses.delete(first.id)  # a continuation does not need it
    third = client.responses.create(model=MODEL, input="say:Six.", previous_response_id=second.id)
    assert third.usage is not None
    assert third.usage.input_tokens == len(prompt + "\nassistant: Five.\nuser: say:Six.")
    items = client.responses.input_items.list(third.id, order="asc")
    assert [item.type for item in items] == ["message"] * 5


def test_responses_can_be_retrieved_and_deleted(client: OpenAI) -> None:
    answer = client.responses.create(model=MODEL, input="say:Four.")
    assert client.responses.retrieve(answer.id).to_dict() == answer.to_dict()
    client.responses.delete(answer.id)
    unstored = client.responses.create(model=MODEL, input="say:Four.", store=False)
    events = list(client.responses.create(model=MODEL, input="say:Five.", stream=True))
    streamed = events[-1].response  # type: ignore[union-attr]
    assert client.responses.retrieve(streamed.id).to_dict() == streamed.to_dict()
    for gone in (answer.id, unstored.id, "resp_none"):
        for ask in (client.responses.retrieve, client.responses.delete, client.responses.input_items.list):
            with pytest.raises(openai.NotFoundError) as missing:
                ask(gone)
            assert missing.value.code == "response_not_found"
        with pytest.raises(openai.BadRequestError) as refused:
            client.responses.create(model=MODEL, input="x", previous_response_id=gone)
        assert (refused.value.param, refused.value.code) == ("previous_response_id", "previous_response_not_found")


def test_input_items_are_listed_in_pages(client: OpenAI) -> None:
    turns: list[Any] = [{"role": "user", "content": str(number)} for number in range(5)]
    turns[1] = {"role": "assistant", "content": "1"}
    answer = client.responses.create(model=MODEL, input=[*turns, {"role": "user", "content": "say:ok"}])
    texts = [item.content[0].text for item in client.responses.input_items.list(answer.id, limit=2)]  # type: ignore
    assert texts == ["say:ok", "4", "3", "2", "1", "0"]  # all pages, the latest first
    page = client.responses.input_items.list(answer.id, limit=2, order="asc")
    assert [item.content[0].text for item in page.data] == ["0", "1"]  # type: ignore[union-attr,index]
    assert page.has_more


def test_structured_output_follows_its_schema(client: OpenAI) -> None:
    class Place(BaseModel):
        city: str
        days: int

    parsed = client.responses.parse(model=MODEL, input="say:nonsense", text_format=Place)
    assert isinstance(parsed.output_parsed, Place)
    schema: Any = {"type": "json_schema", "name": "city", "schema": CITY, "strict": True}
    for text in ("say:nonsense", "say: <think>"):
        answer = same(client, text, text={"format": schema})
        jsonschema.validate(json.loads(answer.output_text), CITY)
        assert answer.text is not None
        assert answer.text.to_dict()["format"] == schema
    loose = same(client, "say:nonsense", text={"format": {"type": "json_object"}})
    assert isinstance(json.loads(loose.output_text), dict)


def test_an_answer_is_a_call_or_of_its_form(client: OpenAI) -> None:
    schema: Any = {"type": "json_schema", "name": "city", "schema": CITY, "strict": True}
    kinds = set()
    for number in range(8):
        answer = same(client, f"say:{number * 'x'}", tools=TOOLS, text={"format": schema})
        kinds.add(answer.output[0].type)
        if answer.output_text:
            jsonschema.validate(json.loads(answer.output_text), CITY)
    assert kinds == {"message", "function_call"}


def test_the_stream_helper_returns_the_whole_response(client: OpenAI) -> None:
    with client.responses.stream(model=MODEL, input=f"say:{CALLS}", tools=TOOLS[1:]) as stream:
        snapshots = [event.snapshot for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert final.output_text == snapshots[-1]
    assert final.output_text.startswith("Let me see.")


@pytest.mark.parametrize("fields", [{"include": ["message.output_text.logprobs"]}, {"top_logprobs": 2}])
@pytest.mark.parametrize("text", ["say:Köln is", THOUGHT])
def test_log_probabilities_are_returned_with_their_tokens(client: OpenAI, fields: Any, text: str) -> None:
    answer = same(client, text, **fields)
    message = answer.output[-1]
    assert message.type == "message"
    part = message.content[0]
    assert part.type == "output_text"
    assert part.logprobs
    pieces = b"".join(bytes(entry.bytes) for entry in part.logprobs)
    assert pieces.decode() == part.text
    assert {len(entry.top_logprobs) for entry in part.logprobs} == {fields.get("top_logprobs", 0)}


def test_an_answer_cut_by_max_tokens_is_incomplete(client: OpenAI) -> None:
    answer = same(client, "say:It is four.", max_output_tokens=2)
    assert (answer.status, answer.output_text) == ("incomplete", "It is ")
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert answer.output[0].status == "incomplete"  # type: ignore[union-attr]
    thinking = same(client, THOUGHT, max_output_tokens=5)
    assert [item.type for item in thinking.output] == ["reasoning"]
    again = client.responses.create(model=MODEL, input="say:ok", previous_response_id=thinking.id)
    assert again.output_text == "ok"


def test_an_empty_answer_is_an_empty_message(client: OpenAI) -> None:
    answer = same(client, "say:")
    assert [item.type for item in answer.output] == ["message"]
    assert answer.output_text == ""
