"""The request body of `POST /v1/chat/completions`.

Strict: no type is coerced, no field is ignored in silence. A field of OpenAI's that infrs does not honour is
declared `Unsupported`, with the values that ask for nothing and so are accepted; any other field is unknown.
`user` is accepted: to OpenAI, too, it is an opaque id that does not change the answer.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NoReturn, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from infrs.openai.invalid import request_error

Role = Literal["developer", "system", "user", "assistant"]


def _neutral(*values: object) -> AfterValidator:
    """Accept null and `values`, which ask for nothing; refuse any other."""

    def check(value: object) -> None:
        if value is None or any(type(value) is type(neutral) and value == neutral for neutral in values):
            return
        raise PydanticCustomError("unsupported_parameter", "not supported by this server")

    return AfterValidator(check)


Unsupported = Annotated[Any, _neutral()]
Unlisted = Annotated[Any, _neutral([])]
Zero = Annotated[Any, _neutral(0, 0.0)]
Off = Annotated[Any, _neutral(False)]


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _as_parts(value: object) -> object:
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    if not isinstance(value, list):
        raise PydanticCustomError("content_type", "expected a string or an array of text parts")
    return value


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class TextPart(_Body):
    """A part of a message's content."""

    type: Literal["text"]
    text: str


class Message(_Body):
    """One turn. `content` given as a string is one text part."""

    role: Role
    content: Annotated[list[TextPart], Field(min_length=1, max_length=1024), BeforeValidator(_as_parts)]
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


class StreamOptions(_Body):
    """`stream_options` of a streamed request."""

    include_usage: bool | None = None
    include_obfuscation: Off = None


class ChatCompletionRequest(_Body):
    """A chat completion asked for. None is "not given"."""

    model: Annotated[str, Field(min_length=1)]
    messages: Annotated[list[Message], Field(min_length=1, max_length=2048)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, lt=1 << 31)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None = None
    max_tokens: Annotated[int, Field(ge=1, lt=1 << 31)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, lt=1 << 31)] | None = None
    stop: (
        Annotated[
            list[Annotated[str, Field(min_length=1, max_length=1024)]],
            Field(max_length=4),
            BeforeValidator(_as_list),
        ]
        | None
    ) = None
    ignore_eos: bool | None = None
    user: Annotated[str, Field(max_length=512, pattern=r"^[^\x00-\x1f\x7f]*$")] | None = None

    n: Annotated[Any, _neutral(1)] = None
    audio: Unsupported = None
    best_of: Annotated[Any, _neutral(1)] = None
    chat_template: Unsupported = None
    chat_template_kwargs: Annotated[Any, _neutral({})] = None
    frequency_penalty: Zero = None
    function_call: Annotated[Any, _neutral("none")] = None
    functions: Unlisted = None
    logit_bias: Annotated[Any, _neutral({})] = None
    logprobs: Off = None
    metadata: Annotated[Any, _neutral({})] = None
    min_tokens: Annotated[Any, _neutral(0)] = None
    modalities: Annotated[Any, _neutral(["text"])] = None
    moderation: Unsupported = None
    parallel_tool_calls: Annotated[Any, _neutral(True)] = None
    prediction: Unsupported = None
    presence_penalty: Zero = None
    prompt_cache_key: Unsupported = None
    prompt_cache_options: Unsupported = None
    prompt_cache_retention: Unsupported = None
    reasoning_effort: Annotated[Any, _neutral("none")] = None
    repetition_penalty: Annotated[Any, _neutral(1, 1.0)] = None
    response_format: Annotated[Any, _neutral({"type": "text"})] = None
    safety_identifier: Unsupported = None
    service_tier: Annotated[Any, _neutral("auto", "default")] = None
    stop_token_ids: Unlisted = None
    store: Off = None
    tool_choice: Annotated[Any, _neutral("none", "auto")] = None
    tools: Unlisted = None
    top_logprobs: Annotated[Any, _neutral(0)] = None
    verbosity: Annotated[Any, _neutral("medium")] = None
    web_search_options: Unsupported = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.stream_options is not None and not self.stream:
            _refuse("stream_options", "only allowed with `stream: true`")
        both = self.max_tokens, self.max_completion_tokens
        if None not in both and both[0] != both[1]:
            _refuse("max_tokens", "differs from max_completion_tokens; send one of them")
        return self

    @property
    def max_output_tokens(self) -> int | None:
        """The answer's bound in tokens, under either name."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens


def _refuse(param: str, message: str) -> NoReturn:
    raise PydanticCustomError("inconsistent", "{message}", {"param": param, "message": message})


def parse_chat_request(payload: dict[str, Any]) -> ChatCompletionRequest:
    """Validate a body. Raises RequestError naming the first field at fault in `param` (`messages[0].role`)."""
    try:
        return ChatCompletionRequest.model_validate(payload)
    except ValidationError as error:
        raise request_error(error, payload) from None
