"""The request body of `POST /v1/chat/completions`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from infrs.openai.fields import (
    Body,
    Generation,
    Metadata,
    Neutral,
    Off,
    Opaque,
    TokenCount,
    Unlisted,
    Unsupported,
    parse_body,
    refuse,
)

Role = Literal["developer", "system", "user", "assistant"]
_Word = Annotated[str, Field(max_length=64)]


class TextPart(Body):
    """A part of a message's content."""

    type: Literal["text"]
    text: str


def _as_parts(value: object) -> object:
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    if not isinstance(value, list):
        raise PydanticCustomError("content_type", "expected a string or an array of text parts")
    return value


class Message(Body):
    """One turn. `content` given as a string is one text part."""

    role: Role
    content: Annotated[
        list[TextPart],
        Field(min_length=1, max_length=1024),
        BeforeValidator(_as_parts, json_schema_input_type=str | list[TextPart]),
    ]
    # What OpenAI's own answers carry beside these, empty when unused: a client may send an answer back as it came.
    name: Unsupported = None
    refusal: Unsupported = None
    audio: Unsupported = None
    function_call: Unsupported = None
    annotations: Unlisted = None
    tool_calls: Unlisted = None
    tool_call_id: Unsupported = None
    reasoning_content: Unsupported = None

    @property
    def text(self) -> str:
        """The content's parts, joined."""
        return "".join(part.text for part in self.content)


class TemplateVariables(Body):
    """What a client may tell a chat template: a closed list, in which nothing can replace what the server tells it."""

    enable_thinking: bool | None = None  # Qwen3, SmolLM3, GLM
    thinking: bool | None = None  # Granite, DeepSeek
    thinking_budget: Annotated[int, Field(ge=-1, lt=1 << 31)] | None = None  # Seed-OSS
    clear_thinking: bool | None = None  # GLM
    preserve_thinking: bool | None = None  # Qwen
    reasoning_effort: _Word | None = None  # gpt-oss
    model_identity: Annotated[str, Field(max_length=4096)] | None = None  # gpt-oss
    date_string: _Word | None = None  # Llama 3
    tools_in_user_message: bool | None = None  # Llama 3


class Conversation(Body):
    """Messages, and how they become a prompt."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=2048)]
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: TemplateVariables | None = None
    chat_template: Unsupported = None

    @model_validator(mode="after")
    def _ends_one_way(self) -> Self:
        if self.continue_final_message and self.add_generation_prompt:
            refuse("continue_final_message", "not with `add_generation_prompt: true`; send one of them")
        if self.continue_final_message and self.messages[-1].role != "assistant":
            refuse("continue_final_message", "the last message is not the assistant's; nothing is there to continue")
        return self

    @property
    def prompts_answer(self) -> bool:
        """Whether the prompt ends where a new message of the assistant begins."""
        return not self.continue_final_message and self.add_generation_prompt is not False

    @property
    def variables(self) -> dict[str, str | int | float | bool]:
        """What the client tells the chat template."""
        return self.chat_template_kwargs.model_dump(exclude_none=True) if self.chat_template_kwargs else {}


class ChatCompletionRequest(Generation, Conversation):
    """A chat completion asked for. None is "not given"."""

    max_completion_tokens: TokenCount | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    service_tier: Literal["auto", "default"] | None = None
    metadata: Metadata | None = None
    safety_identifier: Opaque | None = None
    prompt_cache_key: Opaque | None = None

    audio: Unsupported = None
    best_of: Annotated[Any, Neutral(1)] = None
    function_call: Annotated[Any, Neutral("none")] = None
    functions: Unlisted = None
    modalities: Annotated[Any, Neutral(["text"])] = None
    moderation: Unsupported = None
    parallel_tool_calls: Annotated[Any, Neutral(True)] = None
    prediction: Unsupported = None
    prompt_cache_options: Unsupported = None
    prompt_cache_retention: Unsupported = None
    response_format: Annotated[Any, Neutral({"type": "text"})] = None
    store: Off = None
    tool_choice: Annotated[Any, Neutral("none", "auto")] = None
    tools: Unlisted = None
    verbosity: Annotated[Any, Neutral("medium")] = None
    web_search_options: Unsupported = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        both = self.max_tokens, self.max_completion_tokens
        if None not in both and both[0] != both[1]:
            refuse("max_tokens", "differs from max_completion_tokens; send one of them")
        if self.top_logprobs and not self.logprobs:
            refuse("top_logprobs", "only allowed with `logprobs: true`")
        return self

    @property
    def max_output_tokens(self) -> int | None:
        """The answer's bound in tokens, under either name."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def num_logprobs(self) -> int | None:
        """Alternatives to tell beside each token; None is no log-probabilities at all."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def variables(self) -> dict[str, str | int | float | bool]:
        """What the client tells the chat template, `reasoning_effort` included."""
        effort = {} if self.reasoning_effort is None else {"reasoning_effort": self.reasoning_effort}
        return {**effort, **super().variables}


def parse_chat_request(payload: dict[str, Any]) -> ChatCompletionRequest:
    """Validate a body. Raises RequestError naming the first field at fault in `param` (`messages[0].role`)."""
    return parse_body(ChatCompletionRequest, payload)
