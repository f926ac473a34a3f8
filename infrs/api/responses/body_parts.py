"""The parts of a `/v1/responses` body other than its items: text format, reasoning, tools and their choice."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from infrs.api.chat.thinking import Effort
from infrs.api.common.fields import HINT, Body, Flag, Neutral, Unsupported, Verbosity, refuse_part
from infrs.api.common.structured_output import SchemaName
from infrs.api.common.tools import MAX_NAME, OTHER_TOOLS, Function, Name, OtherTool
from infrs.text.constraint import JSON_OBJECT, Constraint, to_json
from infrs.text.tools.call_grammar import Tool


class TextFormat(Body):
    """`text.format`: free text, any JSON object, or JSON that matches a schema. The server enforces the schema."""

    type: Literal["text", "json_object", "json_schema"]
    name: SchemaName | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    description: Annotated[str, Field(max_length=4096)] | None = None
    strict: bool | None = None

    @model_validator(mode="after")
    def _schema_where_it_belongs(self) -> Self:
        of_schema = self.type == "json_schema"
        given = {"name": self.name, "schema": self.schema_, "description": self.description, "strict": self.strict}
        for field, value in given.items():
            if of_schema and value is None and field in ("name", "schema"):
                refuse_part(field, "required with type json_schema", "missing_required_parameter")
            if not of_schema and value is not None:
                refuse_part(field, "only with type json_schema")
        return self

    @property
    def constraint(self) -> Constraint | None:
        """The constraint on the answer's text."""
        if self.type == "text":
            return None
        schema = JSON_OBJECT if self.schema_ is None else to_json(self.schema_)
        return Constraint("json_schema", schema, "text.format")


class TextOptions(Body):
    """`text`: the format and the verbosity of the answer's text."""

    format: TextFormat | None = None
    verbosity: Verbosity | None = None


Summary = Annotated[Literal["auto", "concise", "detailed"], HINT]


class ReasoningOptions(Body):
    """`reasoning`. The answer shows all reasoning, as the content of reasoning items."""

    effort: Effort | None = None
    summary: Summary | None = None
    generate_summary: Summary | None = None
    context: Annotated[Any, Neutral("auto")] = None
    mode: Annotated[Any, Neutral("standard")] = None


class ResponseTool(Function):
    """A function of `tools`."""

    type: Literal["function"]
    defer_loading: Unsupported = None
    output_schema: Unsupported = None
    allowed_callers: Annotated[Any, Neutral(["direct"])] = None

    @model_validator(mode="before")
    @classmethod
    def _is_function(cls, value: object) -> object:
        if isinstance(value, dict) and value.get("type", "function") != "function":
            refuse_part("type", "only functions are supported, which the client runs", "unsupported_parameter")
        return value

    def as_tool(self, namespace: str | None = None) -> Tool:
        """Return the same as a tool of the chat template, under its full name."""
        return replace(super().as_tool(), name=full_name(self.name, namespace))


def full_name(name: str, namespace: str | None) -> str:
    """Return the name under which the model sees a function of a namespace."""
    return name if namespace is None else f"{namespace}.{name}"


def _tag(value: object) -> str:
    """Return the tag of a tool. Its brackets keep it apart from the names of fields."""
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return {"namespace": "<namespace>"}.get(str(kind), "<other>" if kind in OTHER_TOOLS else "<function>")


NamespacedTool = Annotated[
    Annotated[ResponseTool, Tag("<function>")] | Annotated[OtherTool, Tag("<other>")], Discriminator(_tag)
]


class Namespace(Body):
    """Functions under a common name, such as those of one MCP server."""

    type: Literal["namespace"]
    name: Name
    description: Annotated[str, Field(max_length=1 << 16)] | None = None
    tools: Annotated[list[NamespacedTool], Field(max_length=128)]

    @model_validator(mode="after")
    def _names_are_short(self) -> Self:
        for index, tool in enumerate(self.functions):
            if len(full_name(tool.name, self.name)) > MAX_NAME:
                refuse_part(f"tools[{index}].name", f"more than {MAX_NAME} characters together with its namespace")
        return self

    @property
    def functions(self) -> list[ResponseTool]:
        """The functions among its tools."""
        return [tool for tool in self.tools if isinstance(tool, ResponseTool)]


AnyTool = Annotated[
    Annotated[ResponseTool, Tag("<function>")]
    | Annotated[Namespace, Tag("<namespace>")]
    | Annotated[OtherTool, Tag("<other>")],
    Discriminator(_tag),
]


class ChosenTool(Body):
    """A function that is chosen."""

    type: Literal["function"]
    name: Name


class ToolChoice(Body):
    """A `tool_choice` of one function, or of those that are allowed."""

    type: Literal["function", "allowed_tools"]
    name: Name | None = None
    mode: Literal["auto", "required"] | None = None
    tools: Annotated[list[ChosenTool], Field(min_length=1, max_length=128)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _named_as_in_chats(cls, value: object) -> object:
        """Accept the form of `/v1/chat/completions` too."""
        match value:
            case {"type": "function", "function": {"name": name, **others}, **rest} if not others and not rest:
                return {"type": "function", "name": name}
            case _:
                return value

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        kinds = {"name": "function", "mode": "allowed_tools", "tools": "allowed_tools"}
        for field, kind in kinds.items():
            given = getattr(self, field) is not None
            if given != (self.type == kind):
                refuse_part(field, f"{'only' if given else 'required'} with type {kind}")
        return self


class ResponsesStreamOptions(Body):
    """`stream_options` of a streamed request."""

    include_obfuscation: Flag | None = None
    include_usage: Flag | None = None  # the last event always has the usage
