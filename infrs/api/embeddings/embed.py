"""Token ids of texts to embed, and the response body of their vectors."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import orjson

from infrs.api.common.engine_request import check_token_id
from infrs.api.embeddings.choose_prompt import choose_prompt
from infrs.api.embeddings.request import EmbeddingRequest
from infrs.errors import RequestError
from infrs.models.encoders.embedding_model import EmbeddingModel
from infrs.models.encoders.encoder import Vector, shorten

MAX_TOKENS = 300_000  # OpenAI's, of all texts together


def encode_texts(model: EmbeddingModel, body: EmbeddingRequest) -> list[list[int]]:
    """Return the token ids of the texts, each with the prompt. Texts given as token ids are unchanged.

    Raises RequestError for a prompt that the model does not have, token ids outside the vocabulary, texts without
    tokens and more tokens than a request may have, ContextLengthError for a text longer than the model takes.
    """
    encoded, num_tokens = [], 0
    prompt = choose_prompt(model.manifest, body)
    for index, text in enumerate(body.input):
        where = f"input[{index}]" if len(body.input) > 1 else "input"
        if isinstance(text, str):
            model.check_text(prompt + text, where)
            ids = model.ids_of(prompt + text, where)
            model.check_length(ids, where)
        else:
            ids = text
            model.check_length(ids, where)
            for token_id in ids:
                check_token_id(token_id, model.manifest.vocab_size, where)
        num_tokens += len(ids)
        if num_tokens > MAX_TOKENS:
            raise RequestError(
                f"input: {num_tokens} tokens, but a request may have {MAX_TOKENS}; send the texts in several requests",
                param="input",
                code="max_tokens_per_request",
            )
        encoded.append(ids)
    return encoded


def check_dimensions(model: EmbeddingModel, body: EmbeddingRequest) -> None:
    """Raise RequestError for `dimensions` that the model's vectors cannot have."""
    longest, shorter = model.manifest.dimensions, model.manifest.shorter
    if body.dimensions is not None and body.dimensions > longest:
        raise RequestError(
            f"dimensions: {body.dimensions} are more than the {longest} of this model's vectors; lower it",
            param="dimensions",
            code="integer_above_max_value",
        )
    if shorter is not None and body.dimensions not in (None, *shorter, longest):
        *others, last = map(str, (*shorter, longest))
        allowed = f"{', '.join(others)} or {last}" if others else last
        raise RequestError(
            f"dimensions: {body.dimensions}, but this model makes vectors of {allowed} numbers; choose one of these",
            param="dimensions",
        )


def shortened(model: EmbeddingModel, body: EmbeddingRequest, vectors: Sequence[Vector]) -> list[Vector]:
    """Return the vectors with `dimensions` numbers each."""
    manifest = model.manifest
    dimensions = body.dimensions or manifest.default_dimensions or manifest.dimensions
    return [shorten(vector, dimensions, normalized=manifest.normalized) for vector in vectors]


def embedding_list(model: EmbeddingModel, body: EmbeddingRequest, vectors: Sequence[Vector], num_tokens: int) -> bytes:
    """Return the response body. vectors: float32, one per text. Base64 holds little-endian float32."""
    short = shortened(model, body, vectors)
    shown = [_base64(vector) for vector in short] if body.encoding_format == "base64" else short
    content = {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(shown)],
        "model": model.model_id,
        "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
    }
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def _base64(vector: Vector) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
