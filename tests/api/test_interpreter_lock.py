"""Validation lets other threads run: a conversation is validated message by message, and no schema becomes JSON."""

from __future__ import annotations

from typing import Any

import pytest

from infrs.api.anthropic.request import MessagesRequest
from infrs.api.chat.request import ChatCompletionRequest
from infrs.api.common import structured_output
from infrs.api.common.fields import Body, parse_body
from infrs.api.common.structured_output import StructuredOutputFields
from infrs.api.completions.request import CompletionRequest
from infrs.api.ollama.request import OllamaChatRequest
from infrs.api.responses.request import ResponsesRequest
from infrs.errors import RequestError
from infrs.text.constraint import to_json

USER = {"role": "user", "content": "hi"}
SCHEMA = {"properties": {"a": {"type": "string"}}}
CONVERSATIONS: list[tuple[type[Body], str, dict[str, Any]]] = [
    (ChatCompletionRequest, "messages", {"model": "m"}),
    (MessagesRequest, "messages", {"model": "m", "max_tokens": 1}),
    (OllamaChatRequest, "messages", {"model": "m"}),
    (ResponsesRequest, "input", {"model": "m"}),
]
BAD: list[dict[str, Any]] = [
    {"role": "nobody", "content": "hi"},
    {"role": "user", "content": [{"type": "text"}]},
    {"role": "user", "content": "hi", "unknown": 1},
    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]},
    {"role": "tool", "content": "{message} {param}"},
]


class Counted(list[Any]):
    """A list that counts its slices."""

    num_slices = 0

    def __getitem__(self, part: Any) -> Any:
        self.num_slices += isinstance(part, slice)
        return super().__getitem__(part)


@pytest.mark.parametrize(("kind", "field", "others"), CONVERSATIONS, ids=lambda value: getattr(value, "__name__", ""))
def test_messages_are_validated_one_by_one(kind: type[Body], field: str, others: dict[str, Any]) -> None:
    messages = Counted([USER] * 50)
    parse_body(kind, {**others, field: messages})
    assert messages.num_slices == 50


@pytest.mark.parametrize("bad", BAD, ids=repr)
@pytest.mark.parametrize(("kind", "field", "others"), CONVERSATIONS, ids=lambda value: getattr(value, "__name__", ""))
def test_an_error_names_its_message(kind: type[Body], field: str, others: dict[str, Any], bad: dict[str, Any]) -> None:
    def refusal(messages: list[Any]) -> tuple[str, str | None, str]:
        try:
            parse_body(kind, {**others, field: messages})
        except RequestError as error:
            return str(error), error.param, error.code
        return "", None, ""

    message, param, code = refusal([bad])
    moved = param and param.replace(f"{field}[0]", f"{field}[3]")
    assert refusal([USER] * 3 + [bad]) == (message.replace(f"{field}[0]", f"{field}[3]"), moved, code)


@pytest.mark.parametrize(("kind", "field", "others"), CONVERSATIONS, ids=lambda value: getattr(value, "__name__", ""))
def test_the_number_of_messages_is_limited(kind: type[Body], field: str, others: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=f"^{field}"):
        parse_body(kind, {**others, field: [USER] * 2049})


@pytest.mark.parametrize(
    ("kind", "body"), [(ChatCompletionRequest, {"messages": [USER]}), (CompletionRequest, {"prompt": "hi"})]
)
def test_a_schema_is_written_once_and_after_validation(
    kind: type[StructuredOutputFields], body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A schema of 0.8 MB takes 30 ms to write with `json`, in which no other thread runs."""
    written: list[object] = []

    def write(value: object) -> str:
        written.append(value)
        return to_json(value)

    monkeypatch.setattr(structured_output, "to_json", write)
    fields = {"guided_json": SCHEMA, "model": "m", "ignore_eos": False, "min_tokens": 0}
    parsed = parse_body(kind, {**body, **fields})
    assert written == []
    assert parsed.constraint is not None
    assert written == [SCHEMA]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (SCHEMA, '{"properties":{"a":{"type":"string"}}}'),
        ({"const": 1 << 64}, '{"const": 18446744073709551616}'),
        ({1: "\xe9"}, '{"1": "\\u00e9"}'),
        (["\xe9"], '["\xe9"]'),
    ],
)
def test_every_value_of_a_python_program_is_written(value: object, text: str) -> None:
    assert to_json(value) == text
