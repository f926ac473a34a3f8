"""`/v1/responses`: answers as items, and stored responses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from sanic import HTTPResponse, Request

from infrs.api.common.errors import ResponseNotFoundError
from infrs.api.output.pages import ARGUMENTS, deleted, page
from infrs.api.responses.compaction import prepare_compaction
from infrs.api.responses.history import StoredConversation, open_conversation
from infrs.api.responses.prepare import count_input_tokens, ignored_of, prepare
from infrs.api.responses.presenter import stream_form
from infrs.api.responses.request import ResponsesRequest, parse_compact_request, parse_responses_request
from infrs.api.responses.store import StoredResponse
from infrs.errors import UnsupportedParameterError
from infrs.http.error_handler import JSON
from infrs.http.routes.generate import LONG_BODY, Parsed, compute, generate, read_body
from infrs.http.state import context_of, state_of


async def create_response(request: Request) -> HTTPResponse | None:
    """Answer a conversation, streamed or whole."""
    parsed = await _open(request, parse_responses_request)
    body = parsed.body.body
    return await generate(request, parsed, prepare, stream_form(body) if body.stream else None)


async def compact(request: Request) -> HTTPResponse | None:
    """Summarise a conversation."""
    return await generate(request, await _open(request, parse_compact_request), prepare_compaction)


async def input_tokens(request: Request) -> HTTPResponse:
    """Count the tokens of a response's prompt."""
    return await compute(
        request, await _open(request, parse_responses_request), count_input_tokens, lambda asked: ignored_of(asked.body)
    )


async def _open(request: Request, parse: Callable[[dict[str, Any]], ResponsesRequest]) -> Parsed[StoredConversation]:
    state = state_of(request)
    parsed = await read_body(request, parse)
    tenant, max_bytes = context_of(request).tenant, state.settings.server.max_body_bytes
    asked = open_conversation(parsed.body, state.responses, tenant, max_bytes)
    return Parsed(asked, parsed.is_long or asked.num_earlier_bytes > LONG_BODY)


async def get_response(request: Request, response_id: str) -> HTTPResponse:
    """Return a stored response as it was sent."""
    refuse_arguments(request)
    return HTTPResponse(_find(request, response_id).body, content_type=JSON)


async def delete_response(request: Request, response_id: str) -> HTTPResponse:
    """Delete a stored response."""
    refuse_arguments(request)
    if not state_of(request).responses.delete(context_of(request).tenant, response_id):
        raise _not_found()
    return HTTPResponse(deleted(response_id, "response"), content_type=JSON)


async def list_input_items(request: Request, response_id: str) -> HTTPResponse:
    """Return a page of the items that a response answers, those of earlier responses included."""
    refuse_arguments(request, *ARGUMENTS)
    items = [(name, orjson.Fragment(item)) for name, item in _find(request, response_id).items]
    return HTTPResponse(page(items, **{name: request.args.get(name) for name in ARGUMENTS}), content_type=JSON)


def _find(request: Request, response_id: str) -> StoredResponse:
    state = state_of(request)
    state.require_models()
    found = state.responses.get(context_of(request).tenant, response_id)
    if found is None:
        raise _not_found()
    return found


def _not_found() -> ResponseNotFoundError:
    return ResponseNotFoundError(
        "no stored response has this id; it was never stored, was deleted, or has made room for others",
        param="response_id",
    )


def refuse_arguments(request: Request, *known: str) -> None:
    """Raise UnsupportedParameterError for an unknown argument in the URL."""
    for name in request.args:
        if name not in known:
            shown = ascii(name)[1:-1][:64]
            raise UnsupportedParameterError(f"{shown} is not supported on this endpoint; remove it", param=shown)
