"""`POST /v1/rerank` and `POST /v1/score`, with their other paths, and `POST /classify`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from sanic import HTTPResponse, Request

from infrs.api.common.fields import parse_body
from infrs.api.common.ignored import header, ignored
from infrs.api.rerank.rank import (
    classify_response,
    classify_texts,
    rerank_pairs,
    rerank_response,
    score_pairs,
    score_response,
)
from infrs.api.rerank.request import ClassifierFields, ClassifyRequest, RerankRequest, ScoreRequest
from infrs.http.error_handler import JSON
from infrs.http.routes.generate import Parsed, read_body
from infrs.http.state import context_of, state_of
from infrs.models.encoders.classifier import ClassifierModel, EncodedText
from infrs.models.encoders.encoder import Vector
from infrs.models.encoders.served import ServedClassifier

B = TypeVar("B", bound=ClassifierFields)


async def rerank(request: Request) -> HTTPResponse:
    """Return the documents in the order of their relevance to a query."""
    parsed = await read_body(request, partial(parse_body, RerankRequest))
    return await _classify(request, parsed, rerank_pairs, rerank_response)


async def score(request: Request) -> HTTPResponse:
    """Return the score of each pair of texts."""
    parsed = await read_body(request, partial(parse_body, ScoreRequest))
    return await _classify(request, parsed, score_pairs, score_response)


async def classify(request: Request) -> HTTPResponse:
    """Return the labels and scores of each text."""
    parsed = await read_body(request, partial(parse_body, ClassifyRequest))
    return await _classify(request, parsed, classify_texts, classify_response)


async def _classify(
    request: Request,
    parsed: Parsed[B],
    encode: Callable[[ClassifierModel, B], list[EncodedText]],
    respond: Callable[[ClassifierModel, B, Sequence[Vector], int, str], bytes],
) -> HTTPResponse:
    """Score texts or pairs of texts.

    encode: returns those of the body. respond: returns the response body of their logits, the number of tokens and
    the request's id.
    """
    state, context, body = state_of(request), context_of(request), parsed.body
    async with state.require_models().use_encoder(ServedClassifier, body.model, context) as served:
        model = served.model
        # A short body can hold many documents, and each is a pair with the whole query.
        texts = await state.in_thread(lambda: encode(model, body), context, is_long=True)
        logits = await served.compute(texts, context)
        num_tokens = sum(len(text.ids) for text in texts)
        served.metrics.prompt_tokens.inc(num_tokens)
        content = await state.in_thread(lambda: respond(model, body, logits, num_tokens, context.request_id), context)
        return HTTPResponse(content, headers=header(ignored(body)), content_type=JSON)
