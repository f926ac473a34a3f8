"""The request body of `POST /v1/chat/completions`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from infrs.api.chat.thinking import ThinkingFields
from infrs.api.common.fail_fast import in_pieces
from infrs.api.common.fields import (
    MAX_MESSAGES,
    AnyHint,
    Body,
    CacheControl,
    Neutral,
    TokenCount,
    Unsupported,
    parse_body,
    refuse,
    refuse_part,
)
from infrs.api.common.other_fields import OtherFields
from infrs.api.common.structured_output import ConstrainedGenerationFields
from infrs.api.common.tools import CalledFunction, CallId, ToolCall, ToolFields

Role = Literal["developer", "system", "user", "assistant", "tool", "function"]
Author = Annotated[str, Field(pattern=r"^[^\s<|\\/>]{1,64}$")]  # OpenAI's pattern
_Word = Annotated[str, Field(max_length=64)]


class TextPart(Body):
    """A part of a message's content, also in the form of `/v1/responses`."""

    type: Literal["text", "input_text", "output_text"]
    text: str
    cache_control: CacheControl | None = None
    prompt_cache_breakpoint: AnyHint = None
    # OpenAI Agents SDK (JavaScript) copies the other fields of the answer into its text.
    role: AnyHint = None
    annotations: AnyHint = None
    reasoning_content: AnyHint = None
    refusal: Unsupported = None


class RefusalPart(Body):
    """A refusal of the assistant. The model reads it like other text."""

    type: Literal["refusal"]
    refusal: str

    @property
    def text(self) -> str:
        """The refusal."""
        return self.refusal


def text_or_refusal(value: object) -> str:
    """Return the tag of a part. Its brackets keep it apart from the names of fields."""
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return "<refusal>" if kind == "refusal" else "<text>"


Part = Annotated[
    Annotated[TextPart, Tag("<text>")] | Annotated[RefusalPart, Tag("<refusal>")], Discriminator(text_or_refusal)
]


def text_as_part(kind: str) -> Callable[[object], object]:
    """Return a validator that turns a string into one part with `kind` as its `type`."""

    def read(value: object) -> object:
        if isinstance(value, str):
            return [{"type": kind, "text": value}]
        if not isinstance(value, list):
            raise PydanticCustomError("content_type", "expected a string or an array of text parts")
        return value

    return read


class Message(Body):
    """One message. A string as `content` is one text part."""

    role: Role
    content: (
        Annotated[
            list[Part],
            Field(max_length=1024),
            BeforeValidator(text_as_part("text"), json_schema_input_type=str | list[Part]),
        ]
        | None
    ) = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=128)] | None = None
    function_call: CalledFunction | None = None
    tool_call_id: CallId | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None  # the name of vLLM and OpenRouter
    name: Author | None = None
    refusal: str | None = None
    # A client may send an answer back unchanged, with what OpenAI, a router or the client itself has added.
    id: AnyHint = None
    audio: Unsupported = None
    images: Unsupported = None
    prefix: Unsupported = None  # here `continue_final_message`
    annotations: AnyHint = None
    parsed: AnyHint = None
    reasoning_details: AnyHint = None
    thinking_blocks: AnyHint = None
    provider_specific_fields: AnyHint = None
    cache_control: CacheControl | None = None

    @model_validator(mode="after")
    def _fits_its_role(self) -> Self:
        calls = self.tool_calls or self.function_call
        for field, allowed in (
            ("tool_calls", self.tool_calls is None or self.role == "assistant" or not self.tool_calls),
            ("function_call", self.function_call is None or (self.role == "assistant" and not self.tool_calls)),
            ("reasoning_content", self.reasoning_content is None or self.role == "assistant"),
            ("reasoning", self.reasoning is None or self.role == "assistant"),
            ("refusal", self.refusal is None or self.role == "assistant"),
            ("tool_call_id", self.tool_call_id is None or self.role == "tool"),
        ):
            if not allowed:
                refuse_part(field, f"not in a message of role {self.role}, or with other calls")
        null = "content" in self.model_fields_set
        can_be_empty = self.role in ("assistant", "tool", "function")  # an answer of the server can be
        if self.content == [] and not can_be_empty:
            refuse_part("content", "expected at least 1, not 0", "empty_array")
        said = self.refusal or self.reasoning_content or self.reasoning or calls
        if self.content is None and not said and not (null and can_be_empty):
            refuse_part("content", "required", "invalid_type" if null else "missing_required_parameter")
        if self.tool_call_id is None and self.role == "tool":
            refuse_part("tool_call_id", "required in a message of role tool", "missing_required_parameter")
        if self.name is None and self.role == "function":
            refuse_part("name", "required in a message of role function", "missing_required_parameter")
        return self

    @property
    def text(self) -> str:
        """The parts of the content, joined; the refusal if there is no content."""
        return "".join(part.text for part in self.content or ()) or self.refusal or ""


class TemplateVariables(Body):
    """The template variables that a client may set. None of them can replace a variable of the server."""

    enable_thinking: bool | None = None  # Qwen3, SmolLM3, GLM
    thinking: bool | None = None  # Granite, DeepSeek
    thinking_budget: Annotated[int, Field(ge=-1, lt=1 << 31)] | None = None  # Seed-OSS
    clear_thinking: bool | None = None  # GLM
    preserve_thinking: bool | None = None  # Qwen
    reasoning_effort: _Word | None = None  # gpt-oss
    model_identity: Annotated[str, Field(max_length=4096)] | None = None  # gpt-oss
    date_string: _Word | None = None  # Llama 3
    tools_in_user_message: bool | None = None  # Llama 3


class ConversationFields(ToolFields, ThinkingFields):
    """Messages and tools, and how they become a prompt."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES), in_pieces(1, MAX_MESSAGES)]
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: TemplateVariables | None = None
    chat_template: Unsupported = None

    @model_validator(mode="after")
    def _results_of_calls(self) -> Self:
        ids: set[str] = set()
        names: set[str] = set()
        for index, message in enumerate(self.messages):
            ids.update(call.id for call in message.tool_calls or ())
            names.update([message.function_call.name] if message.function_call else [])
            if message.tool_call_id is not None and message.tool_call_id not in ids:
                where = f"messages[{index}].tool_call_id"
                refuse(where, "no call before it has this id; send the assistant's message with its tool_calls first")
            if message.role == "function" and message.name not in names:
                where = f"messages[{index}].name"
                refuse(where, "no call before it has this name; send the message with its function_call first")
        return self

    @model_validator(mode="after")
    def _ends_one_way(self) -> Self:
        if self.continue_final_message and self.add_generation_prompt:
            refuse("continue_final_message", "not with `add_generation_prompt: true`; send one of them")
        if self.continue_final_message and self.messages[-1].role != "assistant":
            refuse("continue_final_message", "the last message is not the assistant's; nothing is there to continue")
        return self


class ChatCompletionRequest(ConstrainedGenerationFields, ConversationFields, OtherFields):
    """A conversation to answer. None is "not given"."""

    max_completion_tokens: TokenCount | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    audio: Unsupported = None
    best_of: Annotated[Any, Neutral(1)] = None
    echo: Unsupported = None
    moderation: Unsupported = None
    prompt_logprobs: Annotated[Any, Neutral(0)] = None
    add_special_tokens: Annotated[Any, Neutral(False)] = None  # the chat template decides
    web_search_options: Annotated[Any, Neutral(False)] = None  # an empty object asks for a search

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        both = self.max_tokens, self.max_completion_tokens
        if None not in both and both[0] != both[1]:
            refuse("max_tokens", "differs from max_completion_tokens; send one of them")
        if self.top_logprobs and not self.logprobs:
            refuse("top_logprobs", "only allowed with `logprobs: true`")
        return self

    @model_validator(mode="after")
    def _constraint_begins_an_answer(self) -> Self:
        if self.constrained_by and self.continue_final_message:
            refuse("continue_final_message", f"not with {self.constrained_by}; its grammar begins an answer")
        return self

    @property
    def constrained_by(self) -> str | None:
        """The field with the grammar of the answer."""
        return self.declared_in if self.must_call else super().constrained_by

    @property
    def max_output_tokens(self) -> int | None:
        """Most tokens of the answer, under either name."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def num_logprobs(self) -> int | None:
        """Alternatives to show with each token; None is no log-probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None


def parse_chat_request(payload: dict[str, Any]) -> ChatCompletionRequest:
    """Validate a body. Raises RequestError that names the first invalid field, such as `messages[0].role`."""
    return parse_body(ChatCompletionRequest, payload)
