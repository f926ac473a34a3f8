"""The items of `/v1/responses`: messages, calls, results of calls and reasoning."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, TypeAdapter, model_validator

from infrs.api.chat.request import RefusalPart, text_as_part, text_or_refusal
from infrs.api.common.fields import EMPTY, HINT, AnyHint, Body, CacheControl, Neutral, refuse_part
from infrs.api.common.tools import ArgumentsText, CallId, Name

ItemId = Annotated[str, Field(min_length=1, max_length=256)]
Status = Literal["in_progress", "completed", "incomplete"]
Caller = Annotated[Any, Neutral(*EMPTY, {"type": "direct"})]  # not a program of a hosted tool
_SUMMARY = "infrs1"  # marks the encoding of a summary


class Content(Body):
    """A part of text. An answer that the client sends back has `logprobs` and `annotations`."""

    type: Annotated[
        Literal["input_text", "output_text"],
        BeforeValidator(
            lambda kind: "input_text" if kind == "text" else kind,
            json_schema_input_type=Literal["input_text", "output_text", "text"],
        ),
    ]
    text: str
    annotations: AnyHint = None
    parsed: AnyHint = None
    logprobs: Annotated[list[Any], Field(max_length=1 << 20)] | None = None
    cache_control: CacheControl | None = None
    prompt_cache_breakpoint: AnyHint = None


ContentPart = Annotated[
    Annotated[Content, Tag("<text>")] | Annotated[RefusalPart, Tag("<refusal>")], Discriminator(text_or_refusal)
]
Contents = Annotated[
    list[ContentPart],
    Field(max_length=1024),
    BeforeValidator(text_as_part("input_text"), json_schema_input_type=str | list[ContentPart]),
]


class _Item(Body):
    id_prefix: ClassVar[str]

    id: ItemId | None = None
    status: Status | None = None
    cache_control: CacheControl | None = None
    created_by: Annotated[str, HINT] | None = None

    def stored(self) -> dict[str, Any]:
        """Return the item as the server shows it later, with an id."""
        default = {"id": new_item_id(self.id_prefix), "status": "completed"}
        return default | self.model_dump(exclude_none=True)


class MessageItem(_Item):
    """A message. A string as `content` is one part."""

    id_prefix = "msg"

    type: Literal["message"] | None = None
    role: Literal["user", "assistant", "system", "developer"]
    content: Contents
    phase: Annotated[Literal["commentary", "final_answer"], HINT] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.content and self.role != "assistant":
            refuse_part("content", "expected at least 1, not 0", "empty_array")
        return self

    def stored(self) -> dict[str, Any]:
        """See _Item. The type of an assistant's text becomes `output_text`."""
        item = {"type": "message"} | super().stored()
        if self.role == "assistant":
            item["content"] = [
                part if part["type"] == "refusal" else {**part, "type": "output_text", "annotations": []}
                for part in item["content"]
            ]
        return item


class FunctionCall(_Item):
    """A call that the assistant made. arguments: JSON text, or an object."""

    id_prefix = "fc"

    type: Literal["function_call"]
    call_id: CallId
    name: Name
    arguments: ArgumentsText
    namespace: Name | None = None
    caller: Caller = None
    parsed_arguments: AnyHint = None


class CustomCall(_Item):
    """A call of a tool with text as its input. This server makes none: the client had it from another."""

    id_prefix = "ctc"

    type: Literal["custom_tool_call"]
    call_id: CallId
    name: Name
    input: Annotated[str, Field(max_length=1 << 24)]
    namespace: Name | None = None
    caller: Caller = None

    @property
    def arguments(self) -> str:
        """The input as the arguments of a function."""
        return json.dumps({"input": self.input}, ensure_ascii=False)


class FunctionCallOutput(_Item):
    """The result of a call."""

    id_prefix = "fco"

    type: Literal["function_call_output", "custom_tool_call_output"]
    call_id: CallId
    output: Contents
    name: Name | None = None
    namespace: Name | None = None
    caller: Caller = None


class Summary(Body):
    """A part of a summary of reasoning."""

    type: Literal["summary_text"]
    text: str


class ReasoningText(Body):
    """A part of reasoning."""

    type: Literal["reasoning_text"]
    text: str


class ReasoningItem(_Item):
    """The reasoning of the assistant before its answer."""

    id_prefix = "rs"

    type: Literal["reasoning"]
    summary: Annotated[
        list[Summary],
        Field(max_length=1024, default_factory=list),
        BeforeValidator(
            lambda value: [] if value is None else value,
            json_schema_input_type=Annotated[list[Summary], Field(max_length=1024)] | None,
        ),
    ]
    content: Annotated[list[ReasoningText], Field(max_length=1024)] | None = None
    encrypted_content: Annotated[str, HINT] | None = None  # another server's; the text is in `content`

    @property
    def text(self) -> str:
        """The reasoning, or its summary where there is no text of it."""
        parts: list[ReasoningText] | list[Summary] = self.content or self.summary
        return "\n\n".join(part.text for part in parts)


class CompactionItem(_Item):
    """A summary of the conversation before it, as `/v1/responses/compact` returned it."""

    id_prefix = "cmp"

    type: Literal["compaction"]
    encrypted_content: Annotated[str, Field(max_length=1 << 24)]

    @model_validator(mode="after")
    def _is_of_this_server(self) -> Self:
        try:
            decode_summary(self.encrypted_content)
        except ValueError:
            message = "not made by an infrs server, or cut; send the items that it stands for"
            refuse_part("encrypted_content", message, "invalid_encrypted_content")
        return self

    @property
    def text(self) -> str:
        """The summary."""
        return decode_summary(self.encrypted_content)


class ItemReference(Body):
    """A reference to an item of a stored response, by id."""

    id: ItemId
    type: Literal["item_reference"] | None = None


def _kind(value: object) -> str | None:
    if not isinstance(value, dict):
        return None
    kind = value.get("type")
    if kind is None:
        return "item_reference" if "id" in value and value.keys() <= {"id", "type"} else "message"
    return "function_call_output" if kind == "custom_tool_call_output" else str(kind)


Item = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[FunctionCall, Tag("function_call")]
    | Annotated[FunctionCallOutput, Tag("function_call_output")]
    | Annotated[CustomCall, Tag("custom_tool_call")]
    | Annotated[ReasoningItem, Tag("reasoning")]
    | Annotated[CompactionItem, Tag("compaction")]
    | Annotated[ItemReference, Tag("item_reference")],
    Discriminator(_kind),
]


_ITEMS: TypeAdapter[list[Item]] = TypeAdapter(list[Item])


def parse_items(items: Sequence[Mapping[str, Any]]) -> list[Item]:
    """Return items that this server has stored."""
    return _ITEMS.validate_python(items)


def new_item_id(prefix: str) -> str:
    """Return a random id, 192 bits long."""
    return f"{prefix}_{secrets.token_hex(24)}"


def encode_summary(text: str) -> str:
    """Return `encrypted_content` with a text."""
    data = base64.urlsafe_b64encode(text.encode()).decode()
    return f"{_SUMMARY}.{_checksum(data)}.{data}"


def decode_summary(content: str) -> str:
    """Return the text of `encrypted_content`. Raises ValueError for content that this server did not make."""
    mark, _, rest = content.partition(".")
    checksum, _, data = rest.partition(".")
    if mark != _SUMMARY or checksum != _checksum(data):
        raise ValueError
    return base64.urlsafe_b64decode(data).decode()


def _checksum(data: str) -> str:
    return hashlib.sha256(data.encode()).hexdigest()[:32]
