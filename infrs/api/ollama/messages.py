"""The messages and tools of Ollama's conversations."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from infrs.api.common.fields import AnyHint, Body, Unsupported, refuse_part
from infrs.api.common.tools import CallId, Function, Name


class CalledFunction(Body):
    """The function that an assistant called. arguments: an object, not JSON text."""

    name: Name
    arguments: dict[str, Any]
    index: Annotated[int, Field(ge=0)] | None = None


class ToolCall(Body):
    """A call in an assistant's message."""

    function: CalledFunction
    id: CallId | None = None
    type: Literal["function"] | None = None


class Message(Body):
    """One message. tool_name, tool_call_id: of the call that a message of role tool has the result of."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    thinking: str | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=128)] | None = None
    tool_name: Name | None = None
    tool_call_id: CallId | None = None
    name: Name | None = None  # older clients send it instead of tool_name
    images: Unsupported = None

    @model_validator(mode="after")
    def _fits_its_role(self) -> Self:
        for field, given, role in (
            ("tool_calls", self.tool_calls, "assistant"),
            ("thinking", self.thinking, "assistant"),
            ("tool_name", self.tool_name, "tool"),
            ("tool_call_id", self.tool_call_id, "tool"),
        ):
            if given and self.role != role:
                refuse_part(field, f"not in a message of role {self.role}")
        return self


class FunctionTool(Body):
    """An entry of `tools`."""

    type: Literal["function"] | None = None
    function: Function
    items: AnyHint = None
