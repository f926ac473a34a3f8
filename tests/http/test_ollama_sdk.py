"""Ollama's client for Python, unchanged, against a scripted model and a fake embedding model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import ollama
import pytest
from fake_encoder import EMBEDDING_ID
from fake_process import MODEL, FakeServer, fake_server
from ollama import _types as types
from pydantic import BaseModel

from infrs.api.ollama.messages import Message
from infrs.api.ollama.request import (
    OllamaChatRequest,
    OllamaEmbeddingsRequest,
    OllamaEmbedRequest,
    OllamaGenerateRequest,
    OllamaShowRequest,
)
from infrs.api.ollama.request_options import Options

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "days": {"type": "integer", "maximum": 99}},
    "required": ["city", "days"],
}
CALLS = (
    'Let me see.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Köln", "days": 2}}\n</tool_call>\n'
    '<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>'
)


def weather(city: str, days: int) -> str:
    """Return the weather of a place.

    Args:
        city: The place.
        days: How many days.
    """
    return f"say:sunny in {city} for {days} days"


def clock() -> str:
    """Return the time."""
    return "say:noon"


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    script = Path(__file__).parent / "scripted_server.py"
    with fake_server(script=script, embedding="beside", server={"access_log": False}) as running:
        yield running


@pytest.fixture
def client(server: FakeServer) -> ollama.Client:
    return ollama.Client(f"http://127.0.0.1:{server.port}", timeout=30)


def user(content: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": content}]


def same(client: ollama.Client, messages: Any, **fields: Any) -> ollama.ChatResponse:
    """Return the answer without streaming, after a check that the streamed one is equal."""
    answer = client.chat(MODEL, messages, **fields)
    parts = [*client.chat(MODEL, messages, stream=True, **fields)]
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert "".join(part.message.content or "" for part in parts) == answer.message.content
    assert "".join(part.message.thinking or "" for part in parts) == (answer.message.thinking or "")
    calls = [call for part in parts for call in part.message.tool_calls or ()]
    assert calls == [*(answer.message.tool_calls or ())]
    assert (parts[-1].done_reason, parts[-1].eval_count) == (answer.done_reason, answer.eval_count)
    return answer


def test_chat_has_the_text_of_the_model(client: ollama.Client) -> None:
    answer = same(client, user("say:Hello, Köln 😀."))
    assert (answer.message.content, answer.done_reason, answer.model) == ("Hello, Köln 😀.", "stop", MODEL)
    assert answer.total_duration
    assert answer.prompt_eval_count


def test_num_predict_truncates_an_answer(client: ollama.Client) -> None:
    answer = same(client, user("say:Hello, world."), options=ollama.Options(num_predict=2, num_ctx=4096))
    assert (answer.message.content, answer.done_reason) == ("Hello,", "length")


def test_thinking_is_separate(client: ollama.Client) -> None:
    answer = same(client, user("say:<think>\nHm, 2+2.\n</think>\n\nIt is 4."), think=True)
    assert (answer.message.thinking, answer.message.content) == ("Hm, 2+2.", "It is 4.")


def test_functions_are_tools_and_their_results_get_an_answer(client: ollama.Client) -> None:
    messages: list[Any] = user(f"say:{CALLS}")
    answer = same(client, messages, tools=[weather, clock])
    assert answer.message.content == "Let me see."
    calls = [(call.function.name, call.function.arguments) for call in answer.message.tool_calls or ()]
    assert calls == [("weather", {"city": "Köln", "days": 2}), ("clock", {})]
    functions: dict[str, Any] = {"weather": weather, "clock": clock}
    results = [
        {"role": "tool", "tool_name": name, "content": functions[name](**arguments)} for name, arguments in calls
    ]
    last = same(client, [*messages, answer.message, *results], tools=[weather, clock])
    assert (last.message.content or "").startswith("noon")


def test_a_format_is_followed(client: ollama.Client) -> None:
    for number in range(3):
        answer = same(client, user(f"say:nonsense{number * '!'}"), format=CITY)
        jsonschema.validate(json.loads(answer.message.content or ""), CITY)
    text = client.generate(MODEL, "say:x", format="json").response
    assert isinstance(json.loads(text), dict)


def test_generate_answers_a_prompt(client: ollama.Client) -> None:
    whole = client.generate(MODEL, "say:Hello.", system="Be brief.", keep_alive=-1)
    parts = client.generate(MODEL, "say:Hello.", system="Be brief.", stream=True)
    assert whole.response == "".join(part.response for part in parts) == "Hello."
    raw = client.generate(MODEL, "say:Hello.", raw=True, logprobs=True, top_logprobs=2)
    assert raw.response == "Hello."
    assert "".join(entry.token for entry in raw.logprobs or ()) == "Hello."
    assert {len(entry.top_logprobs or ()) for entry in raw.logprobs or ()} == {2}
    assert client.generate(MODEL).done_reason == "load"


def test_embed_returns_a_vector_per_text(client: ollama.Client) -> None:
    many = client.embed(EMBEDDING_ID, ["a", "b"], truncate=False)
    assert len(many.embeddings) == 2
    assert client.embed(EMBEDDING_ID, "a").embeddings == many.embeddings[:1]
    assert client.embeddings(EMBEDDING_ID, "b").embedding == many.embeddings[1]


def test_the_models_are_listed_and_described(client: ollama.Client) -> None:
    names = [model.model for model in client.list().models]
    assert names == [model.model for model in client.ps().models] == [f"{MODEL}:latest", f"{EMBEDDING_ID}:latest"]
    for name in names:
        assert name is not None
        described = client.show(name)
        assert described.capabilities
        assert described.modelinfo
    assert client.chat(names[0] or "", user("say:Hello.")).message.content == "Hello."


def test_errors_are_the_clients_own(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="model 'other' not found") as raised:
        client.chat("other", user("hi"))
    assert raised.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="model 'other' not found"):
        next(client.chat("other", user("hi"), stream=True))
    with pytest.raises(ollama.ResponseError, match="infrs pull"):
        client.pull("other")
    with pytest.raises(ollama.ResponseError, match="infrs models remove"):
        client.delete("other")
    with pytest.raises(ollama.ResponseError, match="images"):
        client.generate(MODEL, "hi", images=[b"png"])
    with pytest.raises(ollama.ResponseError, match="mirostat"):
        client.generate(MODEL, "hi", options={"mirostat": 2})


@pytest.mark.parametrize(
    ("model", "sent"),
    [
        (OllamaChatRequest, types.ChatRequest),
        (OllamaGenerateRequest, types.GenerateRequest),
        (OllamaEmbedRequest, types.EmbedRequest),
        (OllamaEmbeddingsRequest, types.EmbeddingsRequest),
        (OllamaShowRequest, types.ShowRequest),
        (Options, types.Options),
        (Message, types.Message),
    ],
)
def test_each_field_of_the_client_is_honoured_or_refused_by_name(model: type[BaseModel], sent: type[BaseModel]) -> None:
    """Finds the fields of a later client that no request model declares."""
    assert sent.model_fields.keys() <= model.model_fields.keys()


def test_a_stream_may_be_left(client: ollama.Client) -> None:
    stream = client.chat(MODEL, user(f"say:{'word ' * 300}"), stream=True)
    assert next(iter(stream)).message.content
    stream.close()  # type: ignore[attr-defined]  # a generator
    assert client.chat(MODEL, user("say:next")).message.content == "next"
