"""The request body of `POST /v1/responses`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from infrs.api.common.fail_fast import in_pieces
from infrs.api.common.fields import (
    EMPTY,
    HINT,
    MAX_MESSAGES,
    OR_EMPTY,
    Fraction,
    Metadata,
    Model,
    Neutral,
    Penalty,
    TokenCount,
    Unsupported,
    hint,
    parse_body,
    refuse,
)
from infrs.api.common.other_fields import OtherFields
from infrs.api.common.tools import MAX_TOOLS, check_unique, dropped_tools, or_mode
from infrs.api.responses.body_parts import (
    AnyTool,
    Namespace,
    ReasoningOptions,
    ResponsesStreamOptions,
    ResponseTool,
    TextOptions,
    ToolChoice,
    full_name,
)
from infrs.api.responses.items import Item

LOGPROBS = "message.output_text.logprobs"
ResponseId = Annotated[str, Field(min_length=1, max_length=128)]
# Output to include. All but the log-probabilities concern output that this server does not make: hosted tools, images
# and encrypted reasoning, which it shows as text instead.
Includable = Literal[
    "message.output_text.logprobs",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
]


def _as_items(value: object) -> object:
    if isinstance(value, str):
        return [{"type": "message", "role": "user", "content": value}]
    if not isinstance(value, list):
        raise PydanticCustomError("string_or_array_type", "expected a string or an array of items")
    return value


OptionalItems = Annotated[
    list[Item],
    Field(max_length=MAX_MESSAGES, default_factory=list),
    in_pieces(1, MAX_MESSAGES),
    BeforeValidator(
        lambda value: [] if value is None else _as_items(value),
        json_schema_input_type=str | Annotated[list[Item], Field(max_length=MAX_MESSAGES)] | None,
    ),
]


class ResponsesRequest(OtherFields):
    """A conversation to answer. None is "not given"."""

    model: Model
    input: Annotated[
        list[Item],
        Field(min_length=1, max_length=MAX_MESSAGES),
        in_pieces(1, MAX_MESSAGES),
        BeforeValidator(_as_items, json_schema_input_type=str | Annotated[list[Item], Field(max_length=MAX_MESSAGES)]),
    ]
    instructions: Annotated[str, Field(max_length=1 << 24)] | None = None
    previous_response_id: Annotated[ResponseId | None, OR_EMPTY] = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: ResponsesStreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Fraction | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    max_output_tokens: TokenCount | None = None
    max_tool_calls: TokenCount | None = None  # of hosted tools, which this server does not run
    tools: Annotated[list[AnyTool], Field(max_length=128)] | None = None
    tool_choice: Annotated[ToolChoice, or_mode("none", "auto", "required")] | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    include: Annotated[list[Includable], Field(max_length=16)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    metadata: Metadata | None = None  # the response has it
    truncation: Annotated[Literal["auto", "disabled"], hint("disabled")] | None = None  # a prompt is never cut

    background: Unsupported = None
    background_options: Annotated[Any, Neutral(*EMPTY, {"completion_window": "soonest"})] = None
    access_programs: Annotated[Any, Neutral(*EMPTY, {"cyber": "standard"})] = None
    conversation: Unsupported = None
    # Of images, which this server does not take.
    image: Annotated[Any, Neutral(*EMPTY, *({"context_compression": mode} for mode in ("auto", "disabled")))] = None
    moderation: Unsupported = None
    prompt: Unsupported = None
    repetition_penalty: Annotated[Any, Neutral(1)] = None
    top_k: Annotated[Any, Neutral(-1, 0)] = None
    min_p: Annotated[Any, Neutral(0)] = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.stream_options and self.stream_options.include_obfuscation and not self.stream:
            refuse("stream_options", "only allowed with `stream: true`")
        if self.tools and not self.functions:
            message = "not a tool that this server or its client runs, and there is no function; send functions"
            refuse("tools[0].type", message, "unsupported_parameter")
        return self

    @model_validator(mode="after")
    def _choice_of_tools(self) -> Self:
        names = [full_name(tool.name, space) for space, tool in self.functions]
        if len(names) > MAX_TOOLS:
            refuse("tools", f"expected at most {MAX_TOOLS}, not {len(names)}", "array_above_max_length")
        choice = self.chosen
        if isinstance(choice, ToolChoice):
            unknown = min((tool.name for tool in choice.tools or () if tool.name not in names), default=None)
            if unknown is not None:
                refuse("tool_choice.tools", f"{unknown} is not among the tools")
        check_unique(names, "tools")
        if isinstance(choice, ToolChoice) and choice.name is not None and choice.name not in names:
            refuse("tool_choice", f"{choice.name} is not among the tools")
        if choice == "required" and not names:
            refuse("tool_choice", "required, but there are no tools")
        return self

    @property
    def chosen(self) -> ToolChoice | str:
        """`tool_choice`, `auto` by default."""
        return self.tool_choice or "auto"

    @property
    def functions(self) -> list[tuple[str | None, ResponseTool]]:
        """The functions among the tools, each with its namespace. The other tools are dropped."""
        found: list[tuple[str | None, ResponseTool]] = []
        for tool in self.tools or ():
            if isinstance(tool, ResponseTool):
                found.append((None, tool))
            elif isinstance(tool, Namespace):
                found += [(tool.name, function) for function in tool.functions]
        return found

    @property
    def dropped(self) -> list[str]:
        """Names of the tools that are dropped, by their types."""
        return dropped_tools(
            [inner for tool in self.tools or () for inner in (tool.tools if isinstance(tool, Namespace) else [tool])]
        )

    @property
    def names(self) -> dict[str, tuple[str | None, str]]:
        """The namespace and the name of each function, by the name that the model sees."""
        return {full_name(tool.name, space): (space, tool.name) for space, tool in self.functions}

    @property
    def num_logprobs(self) -> int | None:
        """Alternatives to show with each token; None is no log-probabilities."""
        wanted = bool(self.top_logprobs) or LOGPROBS in (self.include or ())
        return (self.top_logprobs or 0) if wanted else None


class CompactRequest(ResponsesRequest):
    """A conversation to summarise: `input`, or the response that `previous_response_id` names, or both."""

    input: OptionalItems
    stream: Unsupported = None  # there is no stream of a summary
    # Of an answer, which a summary is not.
    stream_options: Annotated[ResponsesStreamOptions, HINT] | None = None
    store: Annotated[bool, HINT] | None = None
    metadata: Annotated[Metadata, HINT] | None = None
    tools: Annotated[list[AnyTool], Field(max_length=128), HINT] | None = None
    tool_choice: Annotated[ToolChoice, or_mode("none", "auto", "required"), HINT] | None = None
    parallel_tool_calls: Annotated[bool, HINT] | None = None
    max_tool_calls: Annotated[TokenCount, HINT] | None = None
    text: Annotated[TextOptions, HINT] | None = None
    include: Annotated[list[Includable], Field(max_length=16), HINT] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20), HINT] | None = None

    @model_validator(mode="after")
    def _has_conversation(self) -> Self:
        if not self.input and self.previous_response_id is None:
            refuse("input", "required without previous_response_id", "missing_required_parameter")
        return self


class SocketRequest(ResponsesRequest):
    """A `response.create` event on a WebSocket: a request, which always streams.

    generate: false computes the prompt and no answer. stream_id: named by each event of the answer.
    """

    type: Literal["response.create"]
    input: OptionalItems
    generate: bool | None = None
    stream_id: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    stream: Literal[True] | None = None

    @property
    def is_warm_up(self) -> bool:
        """Whether the request asks for no answer."""
        return self.generate is False

    @model_validator(mode="after")
    def _has_input(self) -> Self:
        if not self.input and not self.is_warm_up:
            refuse("input", "expected at least 1 item; only with `generate: false` there may be none", "empty_array")
        return self


def parse_socket_request(payload: dict[str, Any]) -> SocketRequest:
    """Validate an event of the client. Raises RequestError that names the first invalid field."""
    return parse_body(
        SocketRequest, {**payload, "stream": True if payload.get("stream") is None else payload["stream"]}
    )


def parse_compact_request(payload: dict[str, Any]) -> CompactRequest:
    """Validate a body. Raises RequestError that names the first invalid field."""
    return parse_body(CompactRequest, payload)


def parse_responses_request(payload: dict[str, Any]) -> ResponsesRequest:
    """Validate a body. Raises RequestError that names the first invalid field in `param`, such as `input[0].role`."""
    return parse_body(ResponsesRequest, payload)
