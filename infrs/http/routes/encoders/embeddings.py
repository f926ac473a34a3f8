"""`POST /v1/embeddings`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sanic import HTTPResponse, Request

from infrs.api.common.ignored import header, ignored
from infrs.api.embeddings.embed import check_dimensions, embedding_list, encode_texts
from infrs.api.embeddings.request import EmbeddingRequest, parse_embedding_request
from infrs.http.error_handler import JSON
from infrs.http.routes.generate import Parsed, read_body
from infrs.http.state import context_of, state_of
from infrs.models.encoders.embedding_model import EmbeddingModel
from infrs.models.encoders.encoder import Vector
from infrs.models.encoders.served import ServedEmbeddingModel


async def embeddings(request: Request) -> HTTPResponse:
    """Return the vector of each text."""
    parsed = await read_body(request, parse_embedding_request)

    def respond(model: EmbeddingModel, vectors: Sequence[Vector], num_tokens: int) -> bytes:
        return embedding_list(model, parsed.body, vectors, num_tokens)

    return await embed(request, parsed, ignored(parsed.body), respond)


async def embed(
    request: Request,
    parsed: Parsed[EmbeddingRequest],
    hints: Sequence[str],
    respond: Callable[[EmbeddingModel, Sequence[Vector], int], bytes],
) -> HTTPResponse:
    """Embed texts.

    hints: names of the parts of the request that change nothing. respond: returns the body of the model's vectors,
    which have their full length, and the number of tokens.
    """
    state, context, body = state_of(request), context_of(request), parsed.body
    async with state.require_models().use_encoder(ServedEmbeddingModel, body.model, context) as served:
        model = served.model
        check_dimensions(model, body)
        texts = await state.in_thread(lambda: encode_texts(model, body), context, is_long=parsed.is_long)
        vectors = await served.compute(texts, context)
        num_tokens = sum(map(len, texts))
        served.metrics.prompt_tokens.inc(num_tokens)
        content = await state.in_thread(lambda: respond(model, vectors, num_tokens), context)
        return HTTPResponse(content, headers=header(hints), content_type=JSON)
