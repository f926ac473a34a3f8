"""The request body of `POST /v1/responses`, and the chat completion that it asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from infrs.api.chat.request import MAX_MESSAGES, ChatCompletionRequest, Message, TextPart
from infrs.api.common.fields import (
    HINT,
    Fraction,
    Metadata,
    Model,
    Neutral,
    Off,
    Opaque,
    Penalty,
    ServiceTier,
    TokenCount,
    Unlisted,
    Unsupported,
    parse_body,
    refuse,
)
from infrs.api.common.other_fields import OtherFields
from infrs.api.common.tools import FunctionName, FunctionTool, or_mode
from infrs.api.common.tools import ToolChoice as ChatToolChoice
from infrs.api.responses.items import FunctionCall, FunctionCallOutput, Item, parse_items, to_messages
from infrs.api.responses.options import (
    AnyTool,
    Namespace,
    ReasoningOptions,
    ResponsesStreamOptions,
    ResponseTool,
    TextOptions,
    ToolChoice,
    full_name,
)
from infrs.errors import RequestError

LOGPROBS = "message.output_text.logprobs"
ClientMetadata = Annotated[
    dict[Annotated[str, Field(max_length=256)], Annotated[str, Field(max_length=4096)]], Field(max_length=64), HINT
]
ResponseId = Annotated[str, Field(min_length=1, max_length=128)]
# What to tell besides. All but the log-probabilities are about what no answer of this server has: hosted tools, images
# and encrypted reasoning, which is told in full instead.
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


class ResponsesRequest(OtherFields):
    """A response asked for. None is "not given"."""

    model: Model
    input: Annotated[
        list[Item],
        Field(min_length=1, max_length=MAX_MESSAGES),
        BeforeValidator(_as_items, json_schema_input_type=str | Annotated[list[Item], Field(max_length=MAX_MESSAGES)]),
    ]
    instructions: Annotated[str, Field(max_length=1 << 24)] | None = None
    previous_response_id: ResponseId | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: ResponsesStreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Fraction | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    max_output_tokens: TokenCount | None = None
    max_tool_calls: TokenCount | None = None  # of tools that OpenAI runs: none are, so any bound is kept
    tools: Annotated[list[AnyTool], Field(max_length=128)] | None = None
    tool_choice: Annotated[ToolChoice, or_mode("none", "auto", "required")] | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    include: Annotated[list[Includable], Field(max_length=16)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    metadata: Metadata | None = None
    client_metadata: ClientMetadata | None = None
    service_tier: ServiceTier | None = None
    user: Opaque | None = None
    safety_identifier: Opaque | None = None
    prompt_cache_key: Opaque | None = None
    prompt_cache_retention: Opaque | None = None
    truncation: Annotated[Literal["auto", "disabled"], HINT] | None = None  # a prompt is never cut

    background: Off = None
    background_options: Unsupported = None
    access_programs: Unsupported = None
    context_management: Unlisted = None
    conversation: Unsupported = None
    image: Unsupported = None
    moderation: Unsupported = None
    prompt: Unsupported = None
    prompt_cache_options: Unsupported = None
    repetition_penalty: Annotated[Any, Neutral(1)] = None
    top_k: Annotated[Any, Neutral(-1, 0)] = None
    min_p: Annotated[Any, Neutral(0)] = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.stream_options is not None and not self.stream:
            refuse("stream_options", "only allowed with `stream: true`")
        if self.tools and not self.functions:
            message = "not a tool that this server or its client runs, and no function is beside it; send functions"
            refuse("tools[0].type", message, "unsupported_parameter")
        return self

    @property
    def functions(self) -> list[tuple[str | None, ResponseTool]]:
        """The functions among the tools, each after its namespace; the other tools are dropped."""
        found: list[tuple[str | None, ResponseTool]] = []
        for tool in self.tools or ():
            if isinstance(tool, ResponseTool):
                found.append((None, tool))
            elif isinstance(tool, Namespace):
                found += [(tool.name, function) for function in tool.functions]
        return found

    @property
    def names(self) -> dict[str, tuple[str | None, str]]:
        """Namespace and name of each function, by the name that the model knows."""
        return {full_name(tool.name, space): (space, tool.name) for space, tool in self.functions}

    @property
    def tells_logprobs(self) -> bool:
        """Whether the answer's text comes with log-probabilities."""
        return bool(self.top_logprobs) or LOGPROBS in (self.include or ())


class ResponsesChat(ChatCompletionRequest):
    """A chat completion that `/v1/responses` asks for: its faults are told by the names of that route."""

    prompt_param = "input"
    effort_param = "reasoning.effort"
    format_param = "text.format"


def parse_responses_request(payload: dict[str, Any]) -> ResponsesRequest:
    """Validate a body. Raises RequestError naming the first field at fault in `param` (`input[0].role`)."""
    return parse_body(ResponsesRequest, payload)


def to_chat(
    asked: ResponsesRequest, given: Sequence[Item] | None = None, earlier: Sequence[dict[str, Any]] = ()
) -> ChatCompletionRequest:
    """Return the chat completion that a body asks for.

    given: the body's input, with the items that it refers to; by default the input as it is. earlier: items of the
    conversation so far, as this server told them. Raises RequestError naming the field at fault.
    """
    instructions = [] if asked.instructions is None else [_system(asked.instructions)]
    before = parse_items(earlier)
    given = asked.input if given is None else given
    _check_outputs(before, given)
    messages = [*instructions, *to_messages([*before, *given])]
    if len(messages) > MAX_MESSAGES:
        raise RequestError(
            f"input: the conversation has more than {MAX_MESSAGES} messages; begin a new one",
            param="input",
            code="array_above_max_length",
        )
    tools, choice = _tools(asked)
    text_format = asked.text.format if asked.text else None
    fields = {
        "model": asked.model,
        "messages": messages,
        "stream": asked.stream,
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "presence_penalty": asked.presence_penalty,
        "frequency_penalty": asked.frequency_penalty,
        "max_completion_tokens": asked.max_output_tokens,
        "tools": tools,
        "tool_choice": choice,
        "parallel_tool_calls": asked.parallel_tool_calls,
        "response_format": text_format.as_response_format if text_format else None,
        "reasoning_effort": asked.reasoning.effort if asked.reasoning else None,
        "logprobs": asked.tells_logprobs,
        "top_logprobs": asked.top_logprobs,
    }
    return parse_body(ResponsesChat, fields)


def _check_outputs(earlier: Sequence[Item], given: Sequence[Item]) -> None:
    """Raise RequestError for what a call gave where no call before it has its id."""
    called = {item.call_id for item in earlier if isinstance(item, FunctionCall)}
    for index, item in enumerate(given):
        if isinstance(item, FunctionCall):
            called.add(item.call_id)
        elif isinstance(item, FunctionCallOutput) and item.call_id not in called:
            param = f"input[{index}].call_id"
            raise RequestError(
                f"{param}: no call before it has this id; send the function_call first, or the previous_response_id of "
                "the response that made it",
                param=param,
            )


def _system(text: str) -> Message:
    return Message(role="system", content=[TextPart(type="text", text=text)])


def _tools(asked: ResponsesRequest) -> tuple[list[FunctionTool], ChatToolChoice | str | None]:
    """The functions that may be called, and which of them must be."""
    tools = [FunctionTool(type="function", function=tool.as_function(space)) for space, tool in asked.functions]
    choice: ToolChoice | str | None = asked.tool_choice
    if not isinstance(choice, ToolChoice):
        return tools, choice
    if choice.tools is None:
        return tools, ChatToolChoice(type="function", function=FunctionName(name=choice.name or ""))
    allowed = {tool.name for tool in choice.tools}
    unknown = sorted(allowed - {tool.function.name for tool in tools})
    if unknown:
        raise RequestError(f"tool_choice.tools: {unknown[0]} is not among the tools", param="tool_choice.tools")
    return [tool for tool in tools if tool.function.name in allowed], choice.mode
