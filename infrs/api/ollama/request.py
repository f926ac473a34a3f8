"""The request bodies of Ollama's API (https://docs.ollama.com/api)."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from infrs.api.common.fail_fast import in_pieces
from infrs.api.common.fields import (
    MAX_MESSAGES,
    OR_EMPTY,
    AnyHint,
    Flag,
    Fraction,
    Model,
    Temperature,
    TokenCount,
    Unset,
    Unsupported,
    refuse,
)
from infrs.api.common.other_fields import OtherFields
from infrs.api.common.tools import check_unique
from infrs.api.ollama.keep_alive import KeepAlive
from infrs.api.ollama.messages import FunctionTool, Message
from infrs.api.ollama.request_options import Options

MAX_INPUTS = 2048
Think = bool | Literal["low", "medium", "high", "max"]


class NamedModel(OtherFields):
    """A request to a model. keep_alive: seconds that the model stays loaded after it."""

    model: Model
    keep_alive: KeepAlive = None


class AnswerRequest(NamedModel):
    """The fields of both generating routes. None is "not given"."""

    stream: bool | None = None
    format: Annotated[Literal["json"] | dict[str, Any] | None, OR_EMPTY] = None
    options: Options | None = None
    think: Annotated[Think | None, Unset("")] = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    # The provider of Vercel's AI SDK sends these outside of the options, which take precedence.
    temperature: Temperature | None = None
    top_p: Fraction | None = None
    max_output_tokens: TokenCount | None = None
    truncate: Flag | None = None  # no prompt is truncated
    shift: Flag | None = None  # an answer ends with the context

    @model_validator(mode="after")
    def _alternatives_of_logprobs(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            refuse("top_logprobs", "only allowed with `logprobs: true`")
        return self

    @property
    def streams(self) -> bool:
        """Whether the answer is a stream, which is the default."""
        return self.stream is not False


class OllamaChatRequest(AnswerRequest):
    """A conversation to answer. Without messages, it only loads the model, or unloads it with `keep_alive` 0."""

    messages: Annotated[list[Message], Field(max_length=MAX_MESSAGES), in_pieces(1, MAX_MESSAGES)] | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=128)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_unique([tool.function.name for tool in self.tools or ()], "tools")
        last = self.messages[-1] if self.messages else None
        if last is not None and last.role == "assistant":
            if last.tool_calls:
                refuse("messages", "the last message makes a call; send a message of role tool after it")
            if self.format is not None:
                refuse("format", "a last message of the assistant's cannot be continued with a format")
        return self


class OllamaGenerateRequest(AnswerRequest):
    """A prompt to answer. Without a prompt, it only loads the model, or unloads it with `keep_alive` 0.

    raw: whether the prompt skips the chat template. suffix: the text after the answer.
    """

    prompt: str | None = None
    suffix: Annotated[Annotated[str, Field(max_length=1 << 20)] | None, OR_EMPTY] = None
    system: Annotated[str | None, OR_EMPTY] = None
    raw: bool | None = None
    template: Unsupported = None
    context: Unsupported = None  # /api/chat takes the messages instead
    images: Unsupported = None
    width: Unsupported = None
    height: Unsupported = None
    steps: Unsupported = None

    @property
    def is_plain(self) -> bool:
        """Whether the prompt is plain text, without a chat template."""
        return bool(self.raw) or self.suffix is not None

    @model_validator(mode="after")
    def _plain_text_has_no_roles(self) -> Self:
        for field, given in (("system", self.system), ("think", self.think)):
            if self.is_plain and given:
                refuse(field, f"not with {'raw' if self.raw else 'suffix'}, which uses no chat template")
        return self


class OllamaEmbedRequest(NamedModel):
    """Texts to embed."""

    input: str | Annotated[list[str], Field(max_length=MAX_INPUTS)]  # empty: no texts
    dimensions: Annotated[int, Field(ge=1, lt=1 << 31)] | None = None
    truncate: Flag | None = None
    options: AnyHint = None


class OllamaEmbeddingsRequest(NamedModel):
    """One text to embed, in the older form of the API."""

    prompt: Annotated[str, Field(min_length=1)]
    options: AnyHint = None


class OllamaShowRequest(OtherFields):
    """A model to describe. name: the older name of `model`."""

    model: Model | None = None
    name: Model | None = None
    verbose: Flag | None = None
    system: AnyHint = None
    template: AnyHint = None
    options: AnyHint = None

    @model_validator(mode="after")
    def _names_a_model(self) -> Self:
        if self.model is None and self.name is None:
            refuse("model", "required", "missing_required_parameter")
        return self

    @property
    def model_name(self) -> str:
        """The name of the model."""
        return self.model or self.name or ""
