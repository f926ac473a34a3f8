"""`POST /v1/embeddings`: the vectors of texts."""

from __future__ import annotations

from collections.abc import Sequence

from sanic import HTTPResponse, Request

from infrs.api.common.convert import check_token_id
from infrs.api.common.strict_json import parse_object
from infrs.api.embeddings.request import EmbeddingRequest, check_num_tokens, embedding_list, parse_embedding_request
from infrs.http.error_handler import JSON
from infrs.http.state import context_of, state_of
from infrs.models.embedding_model import EmbeddingModel
from infrs.models.encoder import Vector, shorten


async def embeddings(request: Request) -> HTTPResponse:
    """Answer with a vector for each text."""
    state, context = state_of(request), context_of(request)
    body = parse_embedding_request(parse_object(request.body))
    served = state.require_models().find_embedding(body.model)
    model = served.model
    body.check_dimensions(model.manifest.dimensions)
    with served.admitted():
        texts = await state.in_thread(lambda: encode_texts(model, body), context)
        vectors = await served.embed(texts, context)
        num_tokens = sum(map(len, texts))
        served.metrics.prompt_tokens.inc(num_tokens)
        answer = await state.in_thread(lambda: _answer(model, body, vectors, num_tokens), context)
        return HTTPResponse(answer, content_type=JSON)


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


def _answer(model: EmbeddingModel, body: EmbeddingRequest, vectors: Sequence[Vector], num_tokens: int) -> bytes:
    dimensions = body.dimensions or model.manifest.dimensions
    shown = [shorten(vector, dimensions, normalized=model.manifest.normalized) for vector in vectors]
    return embedding_list(model.model_id, shown, num_tokens, as_base64=body.encoding_format == "base64")
