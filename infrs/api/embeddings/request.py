"""The request and the response body of `POST /v1/embeddings`."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import Field, PlainValidator, WithJsonSchema

from infrs.api.common.fields import Body, Model, Opaque, parse_body
from infrs.api.common.text_or_tokens import Text, as_texts, texts_schema
from infrs.errors import RequestError

MAX_INPUTS = 2048  # OpenAI's
MAX_TOKENS = 300_000  # OpenAI's, of all texts together


class EmbeddingRequest(Body):
    """Texts whose vectors are asked for. None is "not given"."""

    model: Model
    input: Annotated[
        list[Text],
        PlainValidator(partial(as_texts, param="input", limit=MAX_INPUTS)),
        WithJsonSchema(texts_schema(MAX_INPUTS)),
    ]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, lt=1 << 31)] | None = None
    user: Opaque | None = None

    def check_dimensions(self, longest: int) -> None:
        """Raise RequestError if more numbers are asked for than the model's vectors have."""
        if self.dimensions is not None and self.dimensions > longest:
            raise RequestError(
                f"dimensions: {self.dimensions} are more than the {longest} of this model's vectors; lower it",
                param="dimensions",
                code="integer_above_max_value",
            )


def parse_embedding_request(payload: dict[str, Any]) -> EmbeddingRequest:
    """Validate a body. Raises RequestError naming the first field at fault in `param` (`input[0]`)."""
    return parse_body(EmbeddingRequest, payload)


def check_num_tokens(num_tokens: int) -> None:
    """Raise RequestError for more tokens than a request may have."""
    if num_tokens > MAX_TOKENS:
        raise RequestError(
            f"input: {num_tokens} tokens, but a request may have {MAX_TOKENS}; send the texts in several requests",
            param="input",
            code="max_tokens_per_request",
        )


def embedding_list(model_id: str, vectors: Sequence[NDArray[np.float32]], num_tokens: int, *, as_base64: bool) -> bytes:
    """The body of an answer. Base64 is of the little-endian float32 numbers."""
    shown = [base64.b64encode(vector.astype("<f4").tobytes()).decode() for vector in vectors] if as_base64 else vectors
    body = {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(shown)],
        "model": model_id,
        "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
    }
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
