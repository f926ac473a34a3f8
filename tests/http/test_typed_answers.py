"""Answers to the recorded schemas of real clients, through OpenAI's SDK and a real socket, match those schemas."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import openai
import pytest
from fake_process import MODEL, fake_server
from openai.types.chat import ChatCompletion

HERE = Path(__file__).parent
RECORDED: dict[str, dict[str, Any]] = json.loads(
    (HERE.parent / "text" / "client_schemas.json").read_text(encoding="utf-8")
)


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    """Return a client of a server with a model that writes random texts of the grammar."""
    with (
        fake_server(script=HERE / "scripted_server.py", server={"access_log": False}) as running,
        openai.OpenAI(base_url=f"http://127.0.0.1:{running.port}/v1", api_key="unused", max_retries=0) as client,
    ):
        yield client


@pytest.mark.parametrize("name", RECORDED)
def test_an_answer_matches_its_schema(client: openai.OpenAI, name: str) -> None:
    recorded = RECORDED[name]
    schema, strict = recorded["schema"], recorded["strict"]
    fields: dict[str, Any]
    if recorded["kind"] == "tool":
        function = {"name": "answer", "parameters": schema, "strict": strict}
        forced = {"type": "function", "function": {"name": "answer"}}
        fields = {"tools": [{"type": "function", "function": function}], "tool_choice": forced}
    else:
        named = {"name": "answer", "schema": schema, "strict": strict}
        fields = {"response_format": {"type": "json_schema", "json_schema": named}}
    messages: list[Any] = [{"role": "user", "content": f"Answer as {name}."}]
    completion: ChatCompletion = client.chat.completions.create(model=MODEL, messages=messages, **fields)
    [choice] = completion.choices
    if recorded["kind"] == "tool":
        [call] = choice.message.tool_calls or []
        assert call.type == "function"
        answer = call.function.arguments
        assert (choice.finish_reason, call.function.name, choice.message.content) == ("tool_calls", "answer", None)
    else:
        answer = choice.message.content or ""
        assert choice.finish_reason == "stop"
    jsonschema.validate(json.loads(answer), schema, format_checker=jsonschema.FormatChecker())
