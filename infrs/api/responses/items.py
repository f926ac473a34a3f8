"""The items of `/v1/responses`: turns, calls, what calls gave and reasoning; and the messages that they make."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, TypeAdapter

from infrs.api.chat.request import Message, Part, RefusalPart, TextPart, text_as_part, text_or_refusal
from infrs.api.common.fields import HINT, Body, Unlisted, Unsupported
from infrs.api.common.tools import CalledFunction, CallId, Name, ToolCall
from infrs.api.responses.options import full_name

ItemId = Annotated[str, Field(min_length=1, max_length=256)]
Status = Literal["in_progress", "completed", "incomplete"]


class Content(Body):
    """A part of text. `logprobs` and `annotations` come with an answer that is sent back."""

    type: Literal["input_text", "output_text"]
    text: str
    annotations: Unlisted = None
    logprobs: Annotated[list[Any], Field(max_length=1 << 20)] | None = None
    prompt_cache_breakpoint: Unsupported = None


ContentPart = Annotated[
    Annotated[Content, Tag("<text>")] | Annotated[RefusalPart, Tag("<refusal>")], Discriminator(text_or_refusal)
]
Contents = Annotated[
    list[ContentPart],
    Field(min_length=1, max_length=1024),
    BeforeValidator(text_as_part("input_text"), json_schema_input_type=str | list[ContentPart]),
]


class _Item(Body):
    id_prefix: ClassVar[str]

    id: ItemId | None = None
    status: Status | None = None

    def stored(self) -> dict[str, Any]:
        """The item as it is told again, with an id."""
        default = {"id": new_item_id(self.id_prefix), "status": "completed"}
        return default | self.model_dump(exclude_none=True)


class MessageItem(_Item):
    """A turn. `content` given as a string is one part."""

    id_prefix = "msg"

    type: Literal["message"] | None = None
    role: Literal["user", "assistant", "system", "developer"]
    content: Contents
    phase: Annotated[Literal["commentary", "final_answer"], HINT] | None = None

    def stored(self) -> dict[str, Any]:
        """See _Item. An assistant's text is `output_text`, whatever it was called."""
        told = {"type": "message"} | super().stored()
        if self.role == "assistant":
            told["content"] = [
                part if part["type"] == "refusal" else {**part, "type": "output_text", "annotations": []}
                for part in told["content"]
            ]
        return told


class FunctionCall(_Item):
    """A call that the assistant made. arguments: the JSON that it wrote."""

    id_prefix = "fc"

    type: Literal["function_call"]
    call_id: CallId
    name: Name
    arguments: str
    namespace: Name | None = None
    caller: Unsupported = None


class FunctionCallOutput(_Item):
    """What a call gave."""

    id_prefix = "fco"

    type: Literal["function_call_output"]
    call_id: CallId
    output: Contents
    name: Name | None = None
    namespace: Name | None = None
    caller: Unsupported = None


class Summary(Body):
    """A part of a summary of reasoning."""

    type: Literal["summary_text"]
    text: str


class ReasoningText(Body):
    """A part of reasoning."""

    type: Literal["reasoning_text"]
    text: str


class ReasoningItem(_Item):
    """What the assistant thought before it answered."""

    id_prefix = "rs"

    type: Literal["reasoning"]
    summary: Annotated[list[Summary], Field(max_length=1024)]
    content: Annotated[list[ReasoningText], Field(max_length=1024)] | None = None
    encrypted_content: Unsupported = None

    @property
    def text(self) -> str:
        """The reasoning itself, or else its summary."""
        parts: list[ReasoningText] | list[Summary] = self.content or self.summary
        return "\n\n".join(part.text for part in parts)


class ItemReference(Body):
    """An item of a stored response, named by its id."""

    id: ItemId
    type: Literal["item_reference"] | None = None


def _kind(value: object) -> str | None:
    if not isinstance(value, dict):
        return None
    kind = value.get("type")
    if kind is None:
        return "item_reference" if "id" in value and value.keys() <= {"id", "type"} else "message"
    return str(kind)


Item = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[FunctionCall, Tag("function_call")]
    | Annotated[FunctionCallOutput, Tag("function_call_output")]
    | Annotated[ReasoningItem, Tag("reasoning")]
    | Annotated[ItemReference, Tag("item_reference")],
    Discriminator(_kind),
]


_ITEMS: TypeAdapter[list[Item]] = TypeAdapter(list[Item])


def parse_items(items: Sequence[Mapping[str, Any]]) -> list[Item]:
    """Return items that this server has told before."""
    return _ITEMS.validate_python(items)


def new_item_id(prefix: str) -> str:
    """An id that nobody can guess."""
    return f"{prefix}_{secrets.token_hex(24)}"


@dataclass
class _Turn:
    """The assistant's turn, which several items make: reasoning, then text, then calls."""

    reasoning: list[str] = field(default_factory=list)
    text: str | None = None
    calls: list[ToolCall] = field(default_factory=list)

    @property
    def has_answered(self) -> bool:
        return self.text is not None or bool(self.calls)

    def take(self) -> list[Message]:
        """The message of the turn, if there is anything in it; then the turn is empty again."""
        if not self.has_answered and not self.reasoning:
            return []
        text = self.text if self.calls else self.text or ""
        message = Message(
            role="assistant",
            content=None if text is None else [TextPart(type="text", text=text)],
            tool_calls=self.calls or None,
            reasoning_content="\n\n".join(self.reasoning) or None,
        )
        self.reasoning, self.text, self.calls = [], None, []
        return [message]


def to_messages(items: Iterable[Item]) -> list[Message]:
    """Return the conversation that items make. A reference that is left names an item that is there already."""
    messages: list[Message] = []
    turn = _Turn()
    for item in items:
        match item:
            case FunctionCall():
                called = CalledFunction(name=full_name(item.name, item.namespace), arguments=item.arguments)
                turn.calls.append(ToolCall(id=item.call_id, type="function", function=called))
            case ReasoningItem() | MessageItem(role="assistant"):
                if turn.has_answered:
                    messages += turn.take()
                if isinstance(item, ReasoningItem):
                    turn.reasoning += [item.text] * bool(item.text)
                else:
                    turn.text = _joined(item.content)
            case MessageItem():
                messages += turn.take()
                messages.append(Message(role=item.role, content=_parts(item.content)))
            case FunctionCallOutput():
                messages += turn.take()
                content = _parts(item.output)
                name = item.name and full_name(item.name, item.namespace)
                messages.append(Message(role="tool", content=content, tool_call_id=item.call_id, name=name))
    return messages + turn.take()


def _joined(contents: list[ContentPart]) -> str:
    return "".join(part.text for part in contents)


def _parts(contents: list[ContentPart]) -> list[Part]:
    return [TextPart(type="text", text=_joined(contents))]
