"""The fields of tools: declarations, the choice among them, and calls in messages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from infrs.api.common.fields import AnyHint, Body, CacheControl, refuse, refuse_part
from infrs.api.common.strict_json import check_counts
from infrs.text.tools.call_grammar import Tool

MAX_NAME = 128  # as in MCP
MAX_TOOLS = 128
Name = Annotated[str, Field(pattern=rf"^[A-Za-z0-9_.-]{{1,{MAX_NAME}}}$")]
CallId = Annotated[str, Field(min_length=1, max_length=256)]
NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}}


def _of_object(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("type", "object") != "object":
        raise ValueError('the parameters of a function are a schema of type "object"')
    return schema


Parameters = Annotated[dict[str, Any], AfterValidator(_of_object)]


class Function(Body):
    """A function that the model may call."""

    name: Name
    description: Annotated[str, Field(max_length=1 << 16)] | None = None
    parameters: Parameters | None = None
    strict: bool | None = None
    cache_control: CacheControl | None = None

    def as_tool(self) -> Tool:
        """Return the same as a tool of the chat template."""
        return Tool(self.name, self.description or "", self.parameters or NO_ARGUMENTS, bool(self.strict))


class FunctionTool(Body):
    """A function of `tools`."""

    type: Literal["function"] | None = None
    function: Function
    cache_control: CacheControl | None = None


OtherToolType = Literal[
    "apply_patch",
    "code_interpreter",
    "computer",
    "computer_use_preview",
    "custom",
    "file_search",
    "image_generation",
    "local_shell",
    "mcp",
    "programmatic_tool_calling",
    "shell",
    "tool_search",
    "web_search",
    "web_search_2025_08_26",
    "web_search_preview",
    "web_search_preview_2025_03_11",
]
OTHER_TOOLS = get_args(OtherToolType)


class OtherTool(Body):
    """A tool that is not a function: hosted, or with input that is not JSON. It is dropped if functions are given."""

    model_config = ConfigDict(extra="ignore")

    type: OtherToolType


def dropped_tools(tools: Sequence[object]) -> list[str]:
    """Return the names of the tools that are dropped, by their types, such as `tools[web_search]`."""
    return [f"tools[{kind}]" for kind in dict.fromkeys(tool.type for tool in tools if isinstance(tool, OtherTool))]


def check_some_function(tools: Sequence[object]) -> None:
    """Refuse the body, inside its validator, if it has tools, and none of them is a function."""
    if tools and all(isinstance(tool, OtherTool) for tool in tools):
        message = "not a tool that this server or its client runs, and there is no function; send functions"
        refuse("tools[0].type", message, "unsupported_parameter")


def _tag(value: object) -> str:
    """Return the tag of a tool. Its brackets keep it apart from the names of fields."""
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return "<other>" if kind in OTHER_TOOLS else "<function>"


AnyTool = Annotated[
    Annotated[FunctionTool, Tag("<function>")] | Annotated[OtherTool, Tag("<other>")], Discriminator(_tag)
]


class FunctionName(Body):
    """The function that a choice names."""

    name: Name


class NamedTool(Body):
    """A tool that a choice names."""

    type: Literal["function"]
    function: FunctionName


class AllowedTools(Body):
    """The tools that may be called, and whether one of them must be."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1, max_length=128)]


class ToolChoice(Body):
    """A `tool_choice` of one tool, or of those that are allowed."""

    type: Literal["function", "allowed_tools"]
    function: FunctionName | None = None
    allowed_tools: AllowedTools | None = None

    @model_validator(mode="before")
    @classmethod
    def _named_as_in_responses(cls, value: object) -> object:
        """Accept the form of `/v1/responses` too, and a function without a type."""
        if not isinstance(value, dict):
            return value
        if value.keys() == {"type", "name"} and value["type"] == "function":
            return {"type": "function", "function": {"name": value["name"]}}
        return {"type": "function", **value} if "function" in value else value

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        for field, given in (("function", self.function), ("allowed_tools", self.allowed_tools)):
            if given is None and self.type == field:
                refuse_part(field, f"required with type {field}", "missing_required_parameter")
            if given is not None and self.type != field:
                refuse_part(field, f"only with type {field}")
        return self


def check_unique(names: Sequence[str], param: str) -> None:
    """Refuse the body, inside its validator, if the field `param` declares two tools of one name."""
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        refuse(param, f"{twice} is declared twice")


def or_mode(*modes: str) -> WrapValidator:
    """Return a validator that accepts a string of `modes`. Errors of an object then name its fields.

    A mode can also be an object: `{"type": "auto"}`. `any` is Anthropic's and Mistral's word for `required`.
    """

    def check(value: object, validate: ValidatorFunctionWrapHandler) -> object:
        if isinstance(value, dict) and value.keys() == {"type"} and value["type"] in (*modes, "any"):
            value = value["type"]
        if value == "any" and "required" in modes:
            value = "required"
        if not isinstance(value, str):
            return validate(value)
        if value not in modes:
            raise PydanticCustomError("choice", "expected one of {modes}, or an object", {"modes": ", ".join(modes)})
        return value

    return WrapValidator(check)


def _as_text(value: object) -> object:
    """Return arguments as JSON text. Some clients keep them as an object."""
    return json.dumps(value) if isinstance(value, dict) else "" if value is None else value


ArgumentsText = Annotated[str, BeforeValidator(_as_text, json_schema_input_type=str | dict[str, Any] | None)]


class CalledFunction(Body):
    """The function that an assistant called. arguments: JSON text, or an object. None are `{}`."""

    name: Name
    arguments: ArgumentsText = ""
    parsed_arguments: AnyHint = None  # which OpenAI's SDK adds


def parse_arguments(arguments: str) -> object:
    """Return the arguments of a call as templates take them: parsed, or unchanged if they are not a JSON object.

    Raises RequestError with code json_too_large.
    """
    check_counts(arguments.encode(), "the arguments of a call")
    try:
        value = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        return arguments
    return value if isinstance(value, dict) else arguments


class ToolCall(Body):
    """A call in an assistant's message."""

    id: CallId
    type: Literal["function"] | None = None
    function: CalledFunction
    index: int | None = None  # of a streamed call that a client has put together
    extra_content: AnyHint = None
    provider_specific_fields: AnyHint = None

    @model_validator(mode="before")
    @classmethod
    def _custom_as_function(cls, value: object) -> object:
        """Read the call of a custom tool, which another server's model made, as that of a function."""
        custom = value.get("custom") if isinstance(value, dict) and value.get("type") == "custom" else None
        if not isinstance(value, dict) or not isinstance(custom, dict) or not isinstance(custom.get("input"), str):
            return value
        rest = {name: field for name, field in value.items() if name != "custom"}
        function = {**custom, "arguments": {"input": custom["input"]}}
        del function["input"]
        return {**rest, "type": "function", "function": function}


Functions = Annotated[list[Function], Field(max_length=MAX_TOOLS)]


class ToolFields(Body):
    """The fields about tools, and the older ones about functions."""

    tools: Annotated[list[AnyTool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Annotated[ToolChoice, or_mode("none", "auto", "required")] | None = None
    parallel_tool_calls: bool | None = None
    functions: Functions | None = None
    function_call: Annotated[FunctionName, or_mode("none", "auto")] | None = None

    @model_validator(mode="after")
    def _choice_of_tools(self) -> Self:
        check_some_function(self.tools or ())
        if self.tools and self.functions:
            refuse("functions", "not with tools; send tools alone")
        if self.function_call is not None and self.tools:
            refuse("function_call", "not with tools; send tool_choice")
        if self.tool_choice is not None and self.functions:
            refuse("tool_choice", "not with functions; send function_call")
        names = [tool.name for tool in self.declared_tools]
        check_unique(names, self.declared_in)
        unknown = next((name for name in self._allowed if name not in names), None)
        if unknown is not None:
            refuse("tool_choice.allowed_tools.tools", f"{unknown} is not among the tools")
        if self._chosen not in ("none", "auto", "required", *names):
            refuse(self._chosen_in, f"{self._chosen} is not among the tools")
        if self._chosen == "required" and not names:
            refuse("tool_choice", "required, but there are no tools")
        return self

    @property
    def uses_functions(self) -> bool:
        """Whether the client uses OpenAI's older `functions`. The answer then does too."""
        return bool(self.functions)

    @property
    def declared_tools(self) -> list[Tool]:
        """All tools, whatever the choice."""
        functions = [tool.function for tool in self.tools or () if isinstance(tool, FunctionTool)]
        functions += self.functions or []
        return [function.as_tool() for function in functions]

    @property
    def callable_tools(self) -> list[Tool]:
        """The tools that the answer may call."""
        if self._chosen in ("auto", "required"):
            return [tool for tool in self.declared_tools if not self._allowed or tool.name in self._allowed]
        return [tool for tool in self.declared_tools if tool.name == self._chosen]

    @property
    def must_call(self) -> bool:
        """Whether the answer must be a call."""
        return self._chosen not in ("none", "auto")

    @property
    def max_calls(self) -> int | None:
        """Most calls of the answer; None is any number."""
        one = self.parallel_tool_calls is False or self.uses_functions or self._chosen not in ("auto", "required")
        return 1 if one else None

    @property
    def _chosen(self) -> str:
        """`none`, `auto`, `required`, or the name of a tool."""
        choice: ToolChoice | FunctionName | str = self.tool_choice or self.function_call or "auto"
        if isinstance(choice, ToolChoice):
            return (
                choice.allowed_tools.mode if choice.allowed_tools else choice.function.name if choice.function else ""
            )
        return choice.name if isinstance(choice, FunctionName) else choice

    @property
    def _allowed(self) -> list[str]:
        """Names of the tools that may be called; empty for all."""
        allowed = self.tool_choice.allowed_tools if isinstance(self.tool_choice, ToolChoice) else None
        return [tool.function.name for tool in allowed.tools] if allowed else []

    @property
    def _chosen_in(self) -> str:
        return "tool_choice" if self.function_call is None else "function_call"

    @property
    def declared_in(self) -> str:
        """The field that declares the tools."""
        return "functions" if self.functions else "tools"
