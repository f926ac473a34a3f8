"""The demo model cannot be relied on to write JSON or to call tools; with a grammar it does both."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from live_server import Server

from infrs.bundle.manifest import Dtype

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))
from schemas import SCHEMAS

pytestmark = pytest.mark.slow

FORMATS = jsonschema.Draft202012Validator.FORMAT_CHECKER
MODEL = "demo/SmolLM2-135M-Instruct"
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "mood": {"enum": ["good", "bad"]},
    },
    "required": ["name", "age", "mood"],
    "additionalProperties": False,
}


def test_every_finished_answer_validates(demo_server: Callable[[Dtype], Server]) -> None:
    client = demo_server("int8").client()
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Describe a person."}],
        response_format={"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}},
        temperature=1,
        seed=3,
        n=8,
        max_tokens=120,
    )
    finished = [choice.message.content for choice in answer.choices if choice.finish_reason == "stop"]
    assert len(finished) >= 6
    for text in finished:
        jsonschema.validate(json.loads(text or ""), PERSON)


def test_a_set_of_schemas(demo_server: Callable[[Dtype], Server]) -> None:
    """Each complete answer matches its schema, with other schemas in the batch."""
    client = demo_server("int8").client()

    def finished(name: str) -> list[str]:
        form: Any = {"type": "json_schema", "json_schema": {"name": "it", "schema": SCHEMAS[name]}}
        message: Any = {"role": "user", "content": f"Write JSON with this: {name}."}
        answer = client.chat.completions.create(
            model=MODEL, messages=[message], response_format=form, temperature=1, seed=1, n=2, max_tokens=60
        )
        return [choice.message.content or "" for choice in answer.choices if choice.finish_reason == "stop"]

    asked = [name for name, schema in SCHEMAS.items() if isinstance(schema, dict)]
    with ThreadPoolExecutor(4) as pool:
        answers = dict(zip(asked, pool.map(finished, asked), strict=True))
    for name, texts in answers.items():
        for text in texts:
            jsonschema.validate(json.loads(text), SCHEMAS[name], format_checker=FORMATS)
    assert sum(map(len, answers.values())) > len(asked)  # over half of them come to an end in 60 tokens


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "note"}}])
def test_a_required_call_is_made(demo_server: Callable[[Dtype], Server], choice: Any) -> None:
    tools: Any = [{"type": "function", "function": {"name": "note", "parameters": PERSON}}]
    messages: Any = [{"role": "user", "content": "Bob is 33 and in a good mood. Note it."}]
    answer = (
        demo_server("int8")
        .client()
        .chat.completions.create(
            model=MODEL,
            messages=messages,
            tools=tools,
            tool_choice=choice,
            parallel_tool_calls=False,  # this model may make the same call again and again
            temperature=0,
            max_tokens=200,
        )
    )
    assert answer.choices[0].finish_reason == "tool_calls"
    calls = answer.choices[0].message.tool_calls or []
    assert calls
    for call in calls:
        assert call.type == "function"
        jsonschema.validate(json.loads(call.function.arguments), PERSON)
