"""The content blocks of Anthropic's messages (https://docs.claude.com/en/api/messages)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from infrs.api.chat.request import text_as_part
from infrs.api.common.fields import AnyHint, Body, CacheControl, Neutral, Unsupported
from infrs.api.common.tools import CallId, Name


class TextBlock(Body):
    """Text, in a message of any role."""

    type: Literal["text"]
    text: str
    cache_control: CacheControl | None = None
    citations: AnyHint = None

    @property
    def is_billing(self) -> bool:
        """Whether the text is Claude Code's first block of `system`: a line of billing data, which changes."""
        return self.text.startswith("x-anthropic-billing-header:") and "\n" not in self.text.strip()


class ThinkingBlock(Body):
    """Reasoning of the assistant in an earlier answer. signature: opaque; the server does not check it."""

    type: Literal["thinking"]
    thinking: str
    signature: str | None = None
    cache_control: CacheControl | None = None


class RedactedThinkingBlock(Body):
    """Encrypted reasoning of another server. No prompt has it."""

    type: Literal["redacted_thinking"]
    data: AnyHint = None
    cache_control: CacheControl | None = None


class ToolUseBlock(Body):
    """A call that the assistant made."""

    type: Literal["tool_use"]
    id: CallId
    name: Name
    input: dict[str, Any]
    cache_control: CacheControl | None = None
    caller: Annotated[Any, Neutral({"type": "direct"})] = None
    toolset_name: Unsupported = None


def _only(*types: str) -> BeforeValidator:
    """Return a validator that refuses a block of another type, by the name of its type."""

    def check(value: object) -> object:
        if isinstance(value, Body):
            return value
        kind = value.get("type") if isinstance(value, dict) else None
        if kind not in types:
            code = "unsupported_content" if isinstance(kind, str) else "invalid_type"
            message = f"{ascii(kind)[:40]} is not supported here; send {' or '.join(types)}"
            raise PydanticCustomError("part", "{message}", {"field": "type", "message": message, "code": code})
        return value

    return BeforeValidator(check)


def _tag(value: Any) -> str:  # noqa: ANN401  # a block, parsed or not
    """Return the tag of a block. Its brackets keep it apart from the names of fields."""
    return f"<{value['type'] if isinstance(value, dict) else value.type}>"


TextContent = Annotated[
    list[Annotated[TextBlock, _only("text")]],
    Field(max_length=1024),
    BeforeValidator(text_as_part("text"), json_schema_input_type=str | list[TextBlock]),
]


class ToolResultBlock(Body):
    """The result of a call, in a message of the user."""

    type: Literal["tool_result"]
    tool_use_id: CallId
    content: TextContent | None = None
    is_error: bool | None = None
    cache_control: CacheControl | None = None
    toolset_name: Unsupported = None


Block = Annotated[
    Annotated[TextBlock, Tag("<text>")]
    | Annotated[ThinkingBlock, Tag("<thinking>")]
    | Annotated[RedactedThinkingBlock, Tag("<redacted_thinking>")]
    | Annotated[ToolUseBlock, Tag("<tool_use>")]
    | Annotated[ToolResultBlock, Tag("<tool_result>")],
    Discriminator(_tag),
    _only("text", "thinking", "redacted_thinking", "tool_use", "tool_result"),
]
Content = Annotated[
    list[Block],
    Field(max_length=1024),
    BeforeValidator(text_as_part("text"), json_schema_input_type=str | list[Block]),
]
