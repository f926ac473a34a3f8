"""Names and refusals of messages."""

from __future__ import annotations

from typing import Any

import pytest
from test_requests import USER, body, message, refusal

from infrs.api.chat.convert import to_conversation
from infrs.api.chat.prompt import template_messages
from infrs.api.chat.request import parse_chat_request


@pytest.mark.parametrize("role", ["developer", "system", "user", "assistant"])
@pytest.mark.parametrize("name", ["a", "planner_1", "Анна", "n" * 64, "a.b-c"])
def test_names(role: str, name: str) -> None:
    rendered = template_messages(
        to_conversation(parse_chat_request(body(messages=[{"role": role, "content": "a", "name": name}, USER])))
    )
    assert [turn.get("name") for turn in rendered] == [name, None]


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        *(({"name": name}, "name", "invalid_value") for name in ("", "a b", "<x>", "a|b", "a/b", "a\\b", "n" * 65)),
        ({"name": 1}, "name", "invalid_type"),
        ({"refusal": "No."}, "refusal", "invalid_value"),
        ({"content": [{"type": "refusal"}]}, "content[0].refusal", "missing_required_parameter"),
    ],
)
def test_refusals(fields: dict[str, Any], param: str, code: str) -> None:
    error = refusal(message(**fields))
    assert (error.param, error.code) == (f"messages[0].{param}", code)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"content": [{"type": "refusal", "refusal": "No."}]}, "No."),
        ({"content": [{"type": "text", "text": "Well, "}, {"type": "refusal", "refusal": "no."}]}, "Well, no."),
        ({"content": None, "refusal": "No."}, "No."),
        ({"content": "Yes.", "refusal": None}, "Yes."),
    ],
)
def test_a_refusal_is_the_text_of_its_message(fields: dict[str, object], text: str) -> None:
    assert parse_chat_request(message(role="assistant", **fields)).messages[0].text == text
