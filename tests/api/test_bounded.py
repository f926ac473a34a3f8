"""Validation stops at the first invalid element: a body of a million of them costs no more than a body of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from infrs.api.anthropic.request import MessagesRequest
from infrs.api.chat.request import ChatCompletionRequest
from infrs.api.common.fail_fast import nodes
from infrs.api.common.fields import Body, parse_body
from infrs.api.common.strict_json import MAX_DEPTH, parse_object
from infrs.api.responses.request import ResponsesRequest
from infrs.api.tokens.request import DetokenizeRequest
from infrs.errors import RequestError
from infrs.http.routes.table import ROUTES

N = 1000
MOST_ERRORS = 8  # the fields of one object
BODIES = sorted({body for route in ROUTES for body in route.operation.bodies}, key=lambda body: body.__name__)
KEYS = [str(number) for number in range(N)]


def subclasses(kind: type[Body]) -> Iterator[type[Body]]:
    for inner in kind.__subclasses__():
        yield inner
        yield from subclasses(inner)


@pytest.mark.parametrize("kind", sorted(set(subclasses(Body)), key=lambda kind: kind.__name__))
def test_every_list_and_mapping_stops_at_its_first_error(kind: type[Body]) -> None:
    found = [node for node in nodes(kind.__pydantic_core_schema__) if node["type"] in ("list", "dict")]
    assert [node for node in found if not node.get("fail_fast")] == []
    kinds = {node["type"] for node in nodes(kind.__pydantic_core_schema__)}
    assert kinds.isdisjoint({"tuple", "set", "frozenset", "generator", "iterable", "mapping"})


def num_errors(kind: type[Body], payload: dict[str, Any]) -> int:
    try:
        kind.model_validate(payload)
    except ValidationError as error:
        return error.error_count()
    return 0


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize(
    "bad",
    [
        *([element] * N for element in ({}, [], None, 1.5, "x" * 5000, {"type": "x"}, {"role": "user"}, [{}] * N)),
        *(dict.fromkeys(KEYS, value) for value in ({}, [], None, "x", 1e9)),
    ],
    ids=lambda bad: type(bad).__name__,
)
def test_each_field_full_of_errors(kind: type[Body], bad: Any) -> None:
    for name, field in kind.model_fields.items():
        assert num_errors(kind, {field.alias or name: bad}) <= MOST_ERRORS, name


def turn(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "hi"} | fields] * N}


def item(kind: str, **fields: Any) -> dict[str, Any]:
    return {"model": "m", "input": [{"type": kind, "role": "user", "content": "hi"} | fields] * N}


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (ChatCompletionRequest, turn(content=[{}] * N)),
        (ChatCompletionRequest, turn(content=[{"type": "image_url"}] * N)),
        (ChatCompletionRequest, turn(role="assistant", tool_calls=[{}] * 128)),
        (ChatCompletionRequest, turn(role="assistant", tool_calls=[{"function": {"arguments": [{}] * N}}] * 128)),
        (ChatCompletionRequest, turn() | {"tools": [{"type": "function", "function": {}}] * 128}),
        (ChatCompletionRequest, turn() | {"logit_bias": dict.fromkeys(KEYS, "x")}),
        (ChatCompletionRequest, turn() | {"logit_bias": dict.fromkeys([f"{key}x" for key in KEYS], 1)}),
        (
            ResponsesRequest,
            {"model": "m", "input": "hi", "metadata": dict.fromkeys(["k" * 65 + key for key in KEYS], 1)},
        ),
        (ResponsesRequest, item("message", content=[{}] * N)),
        (ResponsesRequest, item("message", content=[{"type": "output_text", "text": 1}] * N)),
        (ResponsesRequest, item("function_call_output", output=[{}] * N)),
        (ResponsesRequest, item("reasoning", summary=[{}] * N)),
        (ResponsesRequest, item("reasoning", summary=[], content=[{}] * N)),
        (ResponsesRequest, {"model": "m", "input": [{"type": "x"}] * N}),
        (ResponsesRequest, {"model": "m", "input": "hi", "tools": [{}] * N}),
        (ResponsesRequest, {"model": "m", "input": "hi", "tool_choice": {"tools": [{}] * N}}),
        (MessagesRequest, turn(content=[{}] * N)),
        (MessagesRequest, turn(content=[{"type": "text"}] * N)),
        (MessagesRequest, turn(content=[{"type": "tool_result", "content": [{}] * N}] * N)),
        (MessagesRequest, turn() | {"system": [{"type": "text", "text": "a", "cache_control": {}}] * N}),
        (DetokenizeRequest, {"tokens": ["x"] * N}),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_nested_errors(kind: type[Body], payload: dict[str, Any]) -> None:
    assert 1 <= num_errors(kind, payload) <= MOST_ERRORS
    with pytest.raises(RequestError) as refused:
        parse_body(kind, payload)
    assert len(refused.value.message) <= 500


@pytest.mark.parametrize("value", [[[]] * N, [{}] * N, {key: {} for key in KEYS}, "x" * N, [["x" * N]] * N])
def test_a_refused_value_is_shown_as_it_begins(value: object) -> None:
    with pytest.raises(RequestError) as refused:
        parse_body(ChatCompletionRequest, {**turn(), "temperature": value})
    shown = ascii(value)[:61]
    assert refused.value.message == f"temperature: {shown}... is not allowed: expected a number"


@pytest.mark.parametrize(
    "around",
    [
        lambda value: [value],
        lambda value: {"a": value},
        lambda value: [{}, "]", 1, value, []],
        lambda value: {"}": [], "b": value, "c": {}},
    ],
)
def test_depth_is_counted_whatever_lies_next_to_it(around: Callable[[Any], Any]) -> None:
    value: Any = []
    for _ in range(MAX_DEPTH - 2):
        value = around(value)
    parse_object(orjson.dumps({"a": value}))
    with pytest.raises(RequestError) as refused:
        parse_object(orjson.dumps({"a": [value]}))
    assert refused.value.code == "json_too_deep"


WHOLE = [("max_tokens", 8.0, 8), ("seed", -1.0, -1), ("n", 2.0, 2), ("top_k", 0.0, 0), ("min_tokens", 3.0, 3)]


@pytest.mark.parametrize(("name", "given", "meant"), WHOLE)
def test_an_integer_may_be_written_as_a_whole_float(name: str, given: float, meant: int) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    value = getattr(parse_body(ChatCompletionRequest, {**body, name: given}), name)
    assert (value, type(value)) == (meant, int)


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"max_tokens": 8.5}, "max_tokens", "invalid_type"),
        ({"max_tokens": 0.0}, "max_tokens", "integer_below_min_value"),
        ({"n": 129.0}, "n", "integer_above_max_value"),
        ({"seed": 2.0**63}, "seed", "integer_above_max_value"),
        ({"top_k": True}, "top_k", "invalid_type"),
        ({"stop_token_ids": [8.0]}, "stop_token_ids[0]", "invalid_type"),  # a list of ids holds integers
    ],
)
def test_a_number_outside_an_integer_field_is_refused(fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(RequestError) as refused:
        parse_body(ChatCompletionRequest, {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields})
    assert (refused.value.param, refused.value.code) == (param, code)
