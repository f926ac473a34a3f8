"""The request bodies of `POST /v1/messages` and `POST /v1/messages/count_tokens`, Anthropic's."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from infrs.api.anthropic.content_blocks import (
    Content,
    RedactedThinkingBlock,
    TextBlock,
    TextContent,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from infrs.api.common.fail_fast import in_pieces
from infrs.api.common.fields import (
    HINT,
    MAX_MESSAGES,
    AnyHint,
    Body,
    CacheControl,
    Flag,
    Fraction,
    Model,
    Neutral,
    Opaque,
    StopStrings,
    TokenCount,
    Unsupported,
    hint,
    refuse,
    refuse_part,
)
from infrs.api.common.other_fields import OtherFields
from infrs.api.common.tools import NO_ARGUMENTS, Name, Parameters, check_unique
from infrs.errors import RequestError
from infrs.text.tools.call_grammar import Tool

# Versions of Anthropic's API. Parameters that the later one removed, such as `temperature`, have an effect in both.
VERSIONS = ("2023-06-01", "2026-10-21")
_ROLES = {
    "text": ("user", "assistant", "system"),
    "tool_result": ("user",),
}  # of a block type; all other types: assistant


class MessageParam(Body):
    """One turn."""

    role: Literal["user", "assistant", "system"]
    content: Content
    cache_control: CacheControl | None = None

    @model_validator(mode="after")
    def _fits_its_role(self) -> Self:
        if not self.content and self.role != "assistant":  # an answer can be empty
            refuse_part("content", "expected at least 1, not 0", "empty_array")
        for index, block in enumerate(self.content):
            if self.role not in _ROLES.get(block.type, ("assistant",)):
                refuse_part(f"content[{index}].type", f"{block.type} is no block of role {self.role}")
        return self


class ToolParam(Body):
    """A tool of the client that the model may call."""

    type: Literal["custom"] | None = None
    name: Name
    description: Annotated[str, Field(max_length=1 << 16)] | None = None
    input_schema: Parameters
    strict: bool | None = None
    cache_control: CacheControl | None = None
    eager_input_streaming: Flag | None = None  # the server always streams the input as it grows
    input_examples: Unsupported = None
    defer_loading: Unsupported = None
    allowed_callers: Annotated[Any, Neutral(["direct"])] = None

    def as_tool(self) -> Tool:
        """Return the same as a tool of the chat template."""
        return Tool(self.name, self.description or "", self.input_schema or NO_ARGUMENTS, bool(self.strict))


_HOSTED = re.compile(
    r"(?:advisor|bash|code_execution|computer|memory|text_editor|tool_search_tool_(?:bm25|regex)|web_fetch|web_search)_\d{8}"
    r"|mcp_toolset"
)


class OtherTool(Body):
    """A tool of Anthropic's that has no schema. It is dropped if other tools are given."""

    model_config = ConfigDict(extra="ignore")

    type: Annotated[str, Field(pattern=f"^(?:{_HOSTED.pattern})$")]


def _tag(value: object) -> str:
    """Return the tag of a tool. Its brackets keep it apart from the names of fields."""
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return "<other>" if isinstance(kind, str) and _HOSTED.fullmatch(kind) else "<custom>"


AnyTool = Annotated[Annotated[ToolParam, Tag("<custom>")] | Annotated[OtherTool, Tag("<other>")], Discriminator(_tag)]


class ToolChoice(Body):
    """Whether the answer calls tools, and which."""

    type: Literal["auto", "any", "tool", "none"]
    name: Name | None = None
    disable_parallel_tool_use: bool | None = None

    @model_validator(mode="after")
    def _names_a_tool(self) -> Self:
        if (self.name is not None) != (self.type == "tool"):
            refuse("tool_choice.name", "goes with type tool, and with no other")
        return self


class Thinking(Body):
    """Whether the model writes reasoning before its answer. budget_tokens: a target, for templates that read one."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Annotated[int, Field(ge=1024, lt=1 << 31)] | None = None
    display: Annotated[Literal["summarized", "omitted"], HINT] | None = None  # the answer shows all reasoning

    @model_validator(mode="after")
    def _budget_where_it_belongs(self) -> Self:
        if (self.budget_tokens is not None) != (self.type == "enabled"):
            refuse("thinking.budget_tokens", "goes with type enabled, and with no other")
        return self


class OutputFormat(Body):
    """JSON of a schema."""

    type: Literal["json_schema"]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]


class OutputConfig(Body):
    """The effort, and the format of the answer's text."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormat | None = None
    task_budget: AnyHint = None  # a target for the agent


def _no_thread(value: object) -> object:
    """Refuse a conversation that the server is to keep, with the code at which Anthropic's SDK sends all of it."""
    if value is not None:
        message = "this server keeps no conversation; remove it, and send all messages"
        refuse("thread", message, "thread_unsupported_request")
    return value


class CountTokensRequest(OtherFields):
    """The fields that make a prompt. None is "not given"."""

    model: Model
    messages: Annotated[list[MessageParam], Field(min_length=1, max_length=MAX_MESSAGES), in_pieces(1, MAX_MESSAGES)]
    system: TextContent | None = None
    tools: Annotated[list[AnyTool], Field(max_length=128)] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None  # the beta's name of `output_config.format`
    speed: Annotated[Literal["standard", "fast"], hint("standard")] | None = None
    mcp_servers: Unsupported = None
    thread: Annotated[Any, BeforeValidator(_no_thread)] = None

    @model_validator(mode="after")
    def _results_of_calls(self) -> Self:
        called: set[str] = set()
        for index, message in enumerate(self.messages):
            for position, block in enumerate(message.content):
                if isinstance(block, ToolUseBlock):
                    called.add(block.id)
                elif isinstance(block, ToolResultBlock) and block.tool_use_id not in called:
                    where = f"messages[{index}].content[{position}].tool_use_id"
                    refuse(where, "no tool_use before it has this id")
        return self

    @model_validator(mode="after")
    def _one_format(self) -> Self:
        if self.output_format and self.output_config and self.output_config.format:
            refuse("output_format", "not with output_config.format; send one of them")
        return self

    @model_validator(mode="after")
    def _tools_agree(self) -> Self:
        names = [tool.name for tool in self.functions]
        if self.tools and not names:
            message = "not a tool that this server or its client runs, and there is no other; send tools with a schema"
            refuse("tools[0].type", message, "unsupported_parameter")
        check_unique(names, "tools")
        choice = self.tool_choice
        if choice and choice.type in ("any", "tool") and not names:
            refuse("tool_choice", "a call is asked for, but there are no tools")
        if choice and choice.name is not None and choice.name not in names:
            refuse("tool_choice.name", f"{choice.name} is not among the tools")
        return self

    @model_validator(mode="after")
    def _end_can_be_continued(self) -> Self:
        last = self.messages[-1]
        if last.role == "assistant":
            where = "messages"
            if not all(isinstance(block, TextBlock | ThinkingBlock | RedactedThinkingBlock) for block in last.content):
                refuse(where, "the last message, the assistant's, makes a call; send its tool_result after it")
            if self.must_call or self.answer_format:
                other = "tool_choice" if self.must_call else self.format_field
                refuse(where, f"a last message of the assistant's cannot be continued with {other}")
        return self

    @property
    def format_field(self) -> str:
        """The field with the format of the answer's text."""
        return "output_config.format" if self.output_format is None else "output_format"

    @property
    def must_call(self) -> bool:
        """Whether the answer must be a call."""
        return self.tool_choice is not None and self.tool_choice.type in ("any", "tool")

    @property
    def callable_tools(self) -> list[ToolParam]:
        """The tools that the answer may call."""
        choice = self.tool_choice
        if choice is None or choice.type in ("auto", "any"):
            return self.functions
        return [tool for tool in self.functions if tool.name == choice.name]

    @property
    def functions(self) -> list[ToolParam]:
        """The tools with a schema. The others are dropped."""
        return [tool for tool in self.tools or () if isinstance(tool, ToolParam)]

    @property
    def dropped(self) -> list[str]:
        """Names of the tools that are dropped, by their types."""
        return [f"tools[{tool.type}]" for tool in self.tools or () if isinstance(tool, OtherTool)]

    @property
    def answer_format(self) -> OutputFormat | None:
        """The format of the answer's text."""
        return self.output_config.format if self.output_config and self.output_config.format else self.output_format


class MessagesRequest(CountTokensRequest):
    """A conversation to answer. None is "not given"."""

    max_tokens: TokenCount
    stream: bool | None = None
    stop_sequences: StopStrings | None = None
    temperature: Fraction | None = None
    top_p: Fraction | None = None
    top_k: Annotated[int, Field(ge=0, lt=1 << 31)] | None = None
    container: Unsupported = None
    diagnostics: AnyHint = None
    inference_geo: Opaque | None = None
    billing_policy: AnyHint = None
    fallbacks: AnyHint = None
    fallback_credit_token: AnyHint = None
    compaction: Unsupported = None

    @model_validator(mode="after")
    def _thoughts_leave_room(self) -> Self:
        budget = self.thinking.budget_tokens if self.thinking else None
        if budget is not None and budget >= self.max_tokens:
            refuse("thinking.budget_tokens", f"must be less than max_tokens, which is {self.max_tokens}")
        return self


def check_version(version: str | None) -> None:
    """Raise RequestError for an unknown `anthropic-version`. A client may send none."""
    if version is not None and version not in VERSIONS:
        known = " or ".join(VERSIONS)
        raise RequestError(
            f"anthropic-version: {ascii(version)[:40]} is not spoken here; send {known}", param="anthropic-version"
        )
