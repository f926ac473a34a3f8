"""A misspelt field, at any depth: the error names the field that it may mean."""

from __future__ import annotations

import re

import pytest
from test_requests import ABSENT, USER, body, message, refusal


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (body(max_token=5), "max_token is not a parameter of this endpoint; did you mean max_tokens?"),
        (message(contant="x"), "messages[0].contant is not a parameter of this endpoint; did you mean content?"),
        (message(audo="x"), "messages[0].audo is not a parameter of this endpoint; remove it"),  # nor is `audio`
        (
            message(content=[{"type": "text", "texts": "a"}]),
            "messages[0].content[0].texts is not a parameter of this endpoint; did you mean text?",
        ),
        (
            body(stream=True, stream_options={"include_usge": True}),
            "stream_options.include_usge is not a parameter of this endpoint; did you mean include_usage?",
        ),
        (
            body(tools=[{"type": "function", "function": {"name": "f", "paramters": {}}}]),
            "tools[0].function.paramters is not a parameter of this endpoint; did you mean parameters?",
        ),
        (
            body(tool_choice={"type": "function", "function": {"nam": "f"}}),
            "tool_choice.function.nam is not a parameter of this endpoint; did you mean name?",
        ),
        (
            body(response_format={"type": "json_schema", "json_schema": {"nam": "a", "schema": {}}}),
            "response_format.json_schema.nam is not a parameter of this endpoint; did you mean name?",
        ),
        (
            body(response_format={"type": "json_schema", "json_schema": {"name": "a", "shema": {}}}),
            "response_format.json_schema.shema is not a parameter of this endpoint; did you mean schema?",
        ),
        (
            body(messages=ABSENT, mesages=[USER]),
            "mesages is not a parameter of this endpoint; did you mean messages?",
        ),
        (body(messages=ABSENT, temprature=1), "messages is required"),
        (body(messages=[{"content": "x", "rôle\n": "user"}]), "messages[0].role is required"),
        (body(messages=[{"rol": "user"}]), "messages[0].rol is not a parameter of this endpoint; did you mean role?"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_misspelt_field_names_the_nearest_field(payload: dict[str, object], message: str) -> None:
    assert refusal(payload).message == message


@pytest.mark.parametrize(
    ("payload", "param"),
    [
        (body() | dict.fromkeys(map(str, range(50_000)), 1), "0"),
        (message(**dict.fromkeys(map(str, range(50_000)), 1)), "messages[0].0"),
    ],
)
def test_a_body_full_of_unknown_fields_is_refused_for_the_first_of_them(payload: dict[str, object], param: str) -> None:
    """pydantic would make an error of each, 3 microseconds apiece, on the event loop."""
    error = refusal(payload)
    assert (error.param, error.code) == (param, "unknown_parameter")
    assert re.fullmatch(rf"{re.escape(param)}: not a parameter, as most of \d+ here; remove it", str(error))
