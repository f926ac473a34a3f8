"""Conversion of Ollama's embedding requests, and the response bodies of their vectors."""

from __future__ import annotations

import time
from collections.abc import Sequence

import orjson

from infrs.api.embeddings.request import EmbeddingRequest, parse_embedding_request
from infrs.api.ollama.request import OllamaEmbeddingsRequest, OllamaEmbedRequest
from infrs.core import RequestContext
from infrs.models.encoders.encoder import Vector


def to_embedding_request(body: OllamaEmbedRequest | OllamaEmbeddingsRequest, model_id: str) -> EmbeddingRequest:
    """Return the same as a request of `/v1/embeddings`. Raises RequestError for an empty text."""
    if isinstance(body, OllamaEmbeddingsRequest):
        return EmbeddingRequest(model=model_id, input=[body.prompt])
    fields = {"model": model_id, "input": body.input, "dimensions": body.dimensions}
    return parse_embedding_request(fields)


def embed_response(model: str, vectors: Sequence[Vector], num_tokens: int, context: RequestContext) -> bytes:
    """Return the body of `/api/embed`. model: the name that the client sent. vectors: float32, one per text."""
    content = {
        "model": model,
        "embeddings": vectors,
        "total_duration": int(1e9 * (context.timeout - (context.deadline - time.monotonic()))),
        "load_duration": 0,
        "prompt_eval_count": num_tokens,
    }
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def embeddings_response(vectors: Sequence[Vector]) -> bytes:
    """Return the body of `/api/embeddings`, which has one vector."""
    return orjson.dumps({"embedding": vectors[0]}, option=orjson.OPT_SERIALIZE_NUMPY)
