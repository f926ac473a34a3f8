"""The request body of `POST /v1/completions`."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Self

from pydantic import Field, PlainValidator, WithJsonSchema, model_validator

from infrs.api.common.fields import MAX_CHOICES, OR_EMPTY, Neutral, Unset, parse_body, refuse
from infrs.api.common.other_fields import OtherFields
from infrs.api.common.structured_output import ConstrainedGenerationFields
from infrs.api.common.text_or_tokens import Text, as_texts, texts_schema

DEFAULT_MAX_TOKENS = 16  # OpenAI's


class CompletionRequest(ConstrainedGenerationFields, OtherFields):
    """Texts to continue. None is "not given"."""

    prompt: Annotated[
        list[Text],
        PlainValidator(partial(as_texts, param="prompt", limit=MAX_CHOICES)),
        WithJsonSchema(texts_schema(MAX_CHOICES)),
    ]
    max_tokens: Annotated[int, Field(ge=0, lt=1 << 31)] | None = None
    best_of: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    echo: bool | None = None
    logprobs: Annotated[Annotated[int, Field(ge=0, le=5)] | None, Unset(False)] = None
    suffix: Annotated[Annotated[str, Field(max_length=1 << 20)] | None, OR_EMPTY] = None
    prompt_logprobs: Annotated[Any, Neutral(0)] = None  # vLLM's; here `echo` with `logprobs`
    add_special_tokens: Annotated[Any, Neutral(True)] = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        num_shown = self.n or 1
        if self.max_tokens == 0 and not self.echo:
            refuse("max_tokens", "0 only with `echo: true`", "integer_below_min_value")
        if self.best_of is not None and self.best_of < num_shown:
            refuse("best_of", f"less than n, which is {num_shown}")
        if self.stream and self.num_choices > num_shown:
            refuse("best_of", "the best of several cannot be streamed; leave `stream` out")
        if len(self.prompt) * self.num_choices > MAX_CHOICES:
            refuse(
                "prompt",
                f"more than {MAX_CHOICES} answers in a request; send fewer prompts or a lower n or best_of",
                "array_above_max_length",
            )
        if self.suffix is not None and (self.echo or not isinstance(self.prompt[0], str)):
            refuse("suffix", "only with prompts that are text, and without `echo`")
        return self

    @property
    def num_choices(self) -> int:
        """Answers to generate per prompt. The response has the best `n` of them."""
        return self.best_of or self.n or 1

    @property
    def max_output_tokens(self) -> int:
        """Most tokens of an answer."""
        return DEFAULT_MAX_TOKENS if self.max_tokens is None else self.max_tokens

    @property
    def num_logprobs(self) -> int | None:
        """Alternatives to show with each token. The best of several answers is chosen by log-probabilities."""
        ranks = self.num_choices > (self.n or 1)
        return 0 if ranks and self.logprobs is None else self.logprobs

    @property
    def scores_prompt(self) -> bool:
        """Whether the response has the log-probabilities of the prompt's tokens."""
        return bool(self.echo) and self.logprobs is not None


def parse_completion_request(payload: dict[str, Any]) -> CompletionRequest:
    """Validate a body. Raises RequestError that names the first invalid field in `param`, such as `prompt[0]`."""
    return parse_body(CompletionRequest, payload)
