"""The request body of `POST /v1/embeddings`."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PlainValidator, WithJsonSchema, model_validator

from infrs.api.common.fields import Model, parse_body, refuse
from infrs.api.common.other_fields import OtherFields
from infrs.api.common.text_or_tokens import Text, as_texts, texts_schema

MAX_INPUTS = 2048  # OpenAI's
MAX_PROMPT_CHARS = 4096


_Name = Annotated[str, Field(min_length=1, max_length=128)]


class EmbeddingRequest(OtherFields):
    """Texts to embed. None is "not given".

    A text begins with a prompt: `prompt` itself, the model's prompt `prompt_name`, or its prompt for a purpose.
    """

    model: Model
    input: Annotated[
        list[Text],
        PlainValidator(partial(as_texts, param="input", limit=MAX_INPUTS)),
        WithJsonSchema(texts_schema(MAX_INPUTS)),
    ]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, lt=1 << 31)] | None = None
    prompt_name: _Name | None = None  # of sentence-transformers and Text Embeddings Inference
    prompt: Annotated[str, Field(max_length=MAX_PROMPT_CHARS)] | None = None  # of sentence-transformers
    input_type: _Name | None = None  # of Cohere, NVIDIA and Voyage
    task: _Name | None = None  # of Jina

    @model_validator(mode="after")
    def _one_prompt(self) -> Self:
        names = [*self.given("prompt_name", "prompt", "input_type", "task")]
        if len(names) > 1:
            refuse(names[1], f"not allowed with `{names[0]}`, which chooses the prompt already")
        return self


def parse_embedding_request(payload: dict[str, Any]) -> EmbeddingRequest:
    """Validate a body. Raises RequestError that names the field in `param`, such as `input[0]`."""
    return parse_body(EmbeddingRequest, payload)
