"""The request body of `POST /v1/embeddings`."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, WithJsonSchema

from infrs.api.common.fields import Model, parse_body
from infrs.api.common.other_fields import OtherFields
from infrs.api.common.text_or_tokens import Text, as_texts, texts_schema

MAX_INPUTS = 2048  # OpenAI's


class EmbeddingRequest(OtherFields):
    """Texts to embed. None is "not given"."""

    model: Model
    input: Annotated[
        list[Text],
        PlainValidator(partial(as_texts, param="input", limit=MAX_INPUTS)),
        WithJsonSchema(texts_schema(MAX_INPUTS)),
    ]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, lt=1 << 31)] | None = None


def parse_embedding_request(payload: dict[str, Any]) -> EmbeddingRequest:
    """Validate a body. Raises RequestError that names the field in `param`, such as `input[0]`."""
    return parse_body(EmbeddingRequest, payload)
