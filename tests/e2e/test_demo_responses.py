"""`/v1/responses` over the demo model."""

from __future__ import annotations

import json
from collections.abc import Callable

import jsonschema
import pytest
from live_server import Server
from test_demo_structured import MODEL, PERSON

from infrs.bundle.manifest import Dtype

pytestmark = pytest.mark.slow


def test_two_turns_are_one_conversation(demo_server: Callable[[Dtype], Server]) -> None:
    client = demo_server("int8").client()
    first = client.responses.create(model=MODEL, input="How many days are in a week?", temperature=0)
    assert "7" in first.output_text
    question = "Which number was that?"
    second = client.responses.create(model=MODEL, input=question, previous_response_id=first.id, temperature=0)
    chat = client.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "user", "content": "How many days are in a week?"},
            {"role": "assistant", "content": first.output_text},
            {"role": "user", "content": question},
        ],
        temperature=0,
    )
    assert second.output_text == chat.choices[0].message.content
    assert second.usage is not None
    assert chat.usage is not None
    assert second.usage.input_tokens == chat.usage.prompt_tokens
    with client.responses.stream(model=MODEL, input=question, previous_response_id=first.id, temperature=0) as stream:
        assert stream.get_final_response().output_text == second.output_text


def test_answer_is_a_call_or_structured_output(demo_server: Callable[[Dtype], Server]) -> None:
    client = demo_server("int8").client()
    answer = client.responses.create(
        model=MODEL,
        input="Bob is 33 and in a good mood. Note it.",
        tools=[{"type": "function", "name": "note", "parameters": PERSON, "strict": True}],
        text={"format": {"type": "json_schema", "name": "person", "schema": PERSON, "strict": True}},
        temperature=0,
        max_output_tokens=300,
    )
    texts = [item.arguments for item in answer.output if item.type == "function_call"] or [answer.output_text]
    for text in texts if answer.status == "completed" else texts[:-1]:
        jsonschema.validate(json.loads(text), PERSON)
    assert answer.output
