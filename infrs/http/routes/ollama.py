"""Ollama's API: `/api/chat`, `/api/generate`, `/api/embed` and the descriptions of models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import orjson
from sanic import HTTPResponse, Request

from infrs.api.common.fields import parse_body
from infrs.api.common.ignored import header, ignored
from infrs.api.embeddings.embed import shortened
from infrs.api.ollama import describe
from infrs.api.ollama.embed import embed_response, embeddings_response, to_embedding_request
from infrs.api.ollama.errors import not_found
from infrs.api.ollama.prepare import prepare_chat, prepare_generate
from infrs.api.ollama.presenter import done, stream_form
from infrs.api.ollama.request import (
    AnswerRequest,
    NamedModel,
    OllamaChatRequest,
    OllamaEmbeddingsRequest,
    OllamaEmbedRequest,
    OllamaGenerateRequest,
    OllamaShowRequest,
)
from infrs.api.output.prepared import Prepared
from infrs.core import RequestContext
from infrs.http.error_handler import JSON
from infrs.http.routes.encoders.embeddings import embed as answer_embeddings
from infrs.http.routes.generate import Parsed, generate_with, read_body
from infrs.http.state import context_of, state_of
from infrs.models.encoders.embedding_model import EmbeddingModel
from infrs.models.encoders.encoder import Vector
from infrs.models.encoders.served import ServedEmbeddingModel
from infrs.models.loaded import LoadedModel

B = TypeVar("B", bound=AnswerRequest)


async def chat(request: Request) -> HTTPResponse | None:
    """Answer a conversation, streamed by default."""
    parsed = await read_body(request, partial(parse_body, OllamaChatRequest))
    return await _answer(request, parsed, prepare_chat, is_chat=True, is_empty=not parsed.body.messages)


async def generate(request: Request) -> HTTPResponse | None:
    """Answer a prompt, streamed by default."""
    parsed = await read_body(request, partial(parse_body, OllamaGenerateRequest))
    return await _answer(request, parsed, prepare_generate, is_chat=False, is_empty=not parsed.body.prompt)


async def _answer(
    request: Request,
    parsed: Parsed[B],
    prepare: Callable[[LoadedModel, B, RequestContext], Prepared],
    *,
    is_chat: bool,
    is_empty: bool,
) -> HTTPResponse | None:
    """Generate an answer. A request without a prompt loads the model, or unloads it with `keep_alive` 0."""
    body, models = parsed.body, state_of(request).require_models()
    model_id = _model_id(request, body)
    if not is_empty:
        form = stream_form(body.model, is_chat=is_chat) if body.streams else None
        return await generate_with(request, parsed, model_id, prepare, form)
    if body.keep_alive == 0:
        await models.expire(model_id)
    else:
        async with models.use_chat(model_id, context_of(request)):
            pass
    content = done(body.model, "unload" if body.keep_alive == 0 else "load", is_chat=is_chat)
    return HTTPResponse(content, headers=header(ignored(body)), content_type=JSON)


async def embed(request: Request) -> HTTPResponse:
    """Return the vectors of texts."""
    parsed = await read_body(request, partial(parse_body, OllamaEmbedRequest))
    name, hints, context = parsed.body.model, ignored(parsed.body), context_of(request)
    model_id = _model_id(request, parsed.body)
    if not parsed.body.input:
        async with state_of(request).require_models().use_encoder(ServedEmbeddingModel, model_id, context):
            pass
        return HTTPResponse(embed_response(name, [], 0, context), headers=header(hints), content_type=JSON)
    asked = to_embedding_request(parsed.body, model_id)

    def respond(model: EmbeddingModel, vectors: Sequence[Vector], num_tokens: int) -> bytes:
        return embed_response(name, shortened(model, asked, vectors), num_tokens, context)

    return await answer_embeddings(request, Parsed(asked, parsed.is_long), hints, respond)


async def embed_one(request: Request) -> HTTPResponse:
    """Return the vector of one text."""
    parsed = await read_body(request, partial(parse_body, OllamaEmbeddingsRequest))
    asked = to_embedding_request(parsed.body, _model_id(request, parsed.body))

    def respond(model: EmbeddingModel, vectors: Sequence[Vector], num_tokens: int) -> bytes:
        return embeddings_response(vectors)

    return await answer_embeddings(request, Parsed(asked, parsed.is_long), ignored(parsed.body), respond)


async def tags(request: Request) -> HTTPResponse:
    """List the models, loaded or not."""
    entries = map(describe.of_entry, state_of(request).require_models().listed)
    return _json({"models": [describe.listed(model) for model in entries if model is not None]})


async def running(request: Request) -> HTTPResponse:
    """List the models that are loaded."""
    models = state_of(request).require_models()
    ready = [(served.model, models.entry(served.model_id)) for served in models.models]
    return _json({"models": [describe.running(describe.of_model(model), entry.expires_in) for model, entry in ready]})


async def show(request: Request) -> HTTPResponse:
    """Describe a model. If it is not loaded, its files are read and it stays unloaded."""
    body = (await read_body(request, partial(parse_body, OllamaShowRequest))).body
    state = state_of(request)
    entry = state.require_models().entry(_named(request, body.model_name))
    described = describe.of_entry(entry)
    if described is None:
        described = describe.of_model(state.models.find(entry.model_id).model)
    elif entry.served is None:
        described = await state.in_thread(partial(describe.with_format, described, entry), context_of(request))
    return HTTPResponse(orjson.dumps(describe.shown(described)), headers=header(ignored(body)), content_type=JSON)


async def version(request: Request) -> HTTPResponse:
    """Return the version of Ollama's API."""
    return _json({"version": describe.VERSION})


def _json(content: object) -> HTTPResponse:
    return HTTPResponse(orjson.dumps(content), content_type=JSON)


def _model_id(request: Request, body: NamedModel) -> str:
    """Return the id or alias of the model of a request, and give the model its `keep_alive`.

    Raises ModelNotFoundError.
    """
    model_id = _named(request, body.model)
    if body.keep_alive is not None:
        state_of(request).models.entry(model_id).keep_alive = body.keep_alive
    return model_id


def _named(request: Request, name: str) -> str:
    """Return the id or alias of a model by its name, with or without `:latest`. Raises ModelNotFoundError."""
    entries = state_of(request).require_models().entries
    names = {name for entry in entries for name in (entry.model_id, *entry.aliases)}
    found = next((each for each in (name, name.removesuffix(describe.TAG)) if each in names), None)
    if found is None:
        raise not_found(name, ", ".join(entry.model_id for entry in entries))
    return found
