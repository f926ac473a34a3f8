"""The fields of other servers: accepted where they change nothing, else refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from infrs.api.chat.request import ChatCompletionRequest
from infrs.api.common.fields import Body, parse_body
from infrs.api.common.other_fields import OtherFields
from infrs.api.completions.request import CompletionRequest
from infrs.api.responses.request import ResponsesRequest
from infrs.errors import RequestError

BODIES: dict[type[Body], dict[str, Any]] = {
    ChatCompletionRequest: {"model": "m", "messages": [{"role": "user", "content": "a"}]},
    CompletionRequest: {"model": "m", "prompt": "a"},
    ResponsesRequest: {"model": "m", "input": "a"},
}
SCHEMA = OtherFields.model_json_schema()["properties"]
NEUTRAL = {name: field["enum"] for name, field in SCHEMA.items() if "enum" in field}
HINTS = {
    "cache_salt": ["salt", None],
    "request_id": ["r-1", None],
    "rid": ["r-1", None],
    "session_id": ["s-1", None],
    "cache_prompt": [True, False, None],
    "id_slot": [-1, 0, 3.0, None],
    "keep_alive": ["5m", -1, 0, None],
}


def test_each_field_is_one_of_the_two() -> None:
    assert NEUTRAL.keys().isdisjoint(HINTS)
    assert NEUTRAL.keys() | HINTS.keys() == OtherFields.model_fields.keys()


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("name", sorted(NEUTRAL | HINTS))
def test_a_value_without_effect_is_accepted(kind: type[Body], name: str) -> None:
    for value in (NEUTRAL | HINTS)[name]:
        parse_body(kind, BODIES[kind] | {name: value})


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("name", sorted(NEUTRAL))
@pytest.mark.parametrize("value", [7, "x", ["x"], {"x": 1}])
def test_a_value_that_would_change_the_answer_is_refused(kind: type[Body], name: str, value: object) -> None:
    with pytest.raises(RequestError) as refused:
        parse_body(kind, BODIES[kind] | {name: value})
    assert (refused.value.param, refused.value.code) == (name, "unsupported_parameter")


@pytest.mark.parametrize("value", [0.0, 0])
def test_a_number_is_the_same_however_it_is_written(value: float) -> None:
    parse_body(ChatCompletionRequest, BODIES[ChatCompletionRequest] | {"priority": value})


def test_false_is_no_number() -> None:
    with pytest.raises(RequestError, match="priority: false is not supported by this server; remove it"):
        parse_body(ChatCompletionRequest, BODIES[ChatCompletionRequest] | {"priority": False})
