"""`POST /v1/embeddings`."""

from __future__ import annotations

from sanic import HTTPResponse, Request

from infrs.api.common.ignored import header, ignored
from infrs.api.embeddings.embed import check_dimensions, embedding_list, encode_texts
from infrs.api.embeddings.request import parse_embedding_request
from infrs.http.error_handler import JSON
from infrs.http.routes.generate import read_body
from infrs.http.state import context_of, state_of


async def embeddings(request: Request) -> HTTPResponse:
    """Return the vector of each text."""
    state, context = state_of(request), context_of(request)
    parsed = await read_body(request, parse_embedding_request)
    body = parsed.body
    served = state.require_models().find_embedding(body.model)
    model = served.model
    check_dimensions(model, body)
    with served.admitted(context.tenant):
        texts = await state.in_thread(lambda: encode_texts(model, body), context, is_long=parsed.is_long)
        vectors = await served.embed(texts, context)
        num_tokens = sum(map(len, texts))
        served.metrics.prompt_tokens.inc(num_tokens)
        content = await state.in_thread(lambda: embedding_list(model, body, vectors, num_tokens), context)
        return HTTPResponse(content, headers=header(ignored(body)), content_type=JSON)
