"""`POST /v1/embeddings`: the vectors of texts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sanic import HTTPResponse, Request

from infrs.api.common.convert import check_token_id
from infrs.api.common.strict_json import parse_object
from infrs.api.embeddings.request import EmbeddingRequest, check_num_tokens, embedding_list, parse_embedding_request
from infrs.errors import RequestTimeoutError
from infrs.http.error_handler import JSON
from infrs.http.state import ServerState, state_of
from infrs.models.embedding_model import EmbeddingModel
from infrs.models.encoder import Vector, shorten


async def embeddings(request: Request) -> HTTPResponse:
    """Answer with a vector for each text."""
    state = state_of(request)
    body = parse_embedding_request(parse_object(request.body))
    model = state.embedding_model(body.model)
    body.check_dimensions(model.manifest.dimensions)
    with state.embedding_admitted():
        texts = await state.in_thread(lambda: encode_texts(model, body))
        vectors = await _vectors(state, model, texts)
        num_tokens = sum(map(len, texts))
        state.metrics.prompt_tokens.inc(num_tokens)
        return HTTPResponse(await state.in_thread(lambda: _answer(model, body, vectors, num_tokens)), content_type=JSON)


def encode_texts(model: EmbeddingModel, body: EmbeddingRequest) -> list[list[int]]:
    """Token ids of the texts. Those that come as token ids are taken as they are, special tokens and all.

    Raises RequestError for token ids that the model does not have, texts without a token and more tokens than a request
    may have, ContextLengthError for a text longer than the model takes.
    """
    encoded, num_tokens = [], 0
    for index, text in enumerate(body.input):
        where = f"input[{index}]" if len(body.input) > 1 else "input"
        if isinstance(text, str):
            model.check_text(text, where)
            ids = model.ids_of(text, where)
        else:
            ids = text
            for token_id in ids:
                check_token_id(token_id, model.manifest.vocab_size, where)
        model.check_length(ids, where)
        num_tokens += len(ids)
        check_num_tokens(num_tokens)
        encoded.append(ids)
    return encoded


async def _vectors(state: ServerState, model: EmbeddingModel, texts: Sequence[Sequence[int]]) -> list[Vector]:
    """Wait for the vectors. A client that leaves cancels the wait, and with it the texts that are still to come."""
    seconds = state.settings.server.request_timeout
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.wrap_future(state.embeddings.submit(model.encoder, texts))
    except TimeoutError:
        raise RequestTimeoutError(f"the answer took longer than the {seconds:g} s this server allows it") from None


def _answer(model: EmbeddingModel, body: EmbeddingRequest, vectors: Sequence[Vector], num_tokens: int) -> bytes:
    dimensions = body.dimensions or model.manifest.dimensions
    shown = [shorten(vector, dimensions, normalized=model.manifest.normalized) for vector in vectors]
    return embedding_list(model.model_id, shown, num_tokens, as_base64=body.encoding_format == "base64")
