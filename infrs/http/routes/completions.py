"""`POST /v1/chat/completions` and `POST /v1/completions`."""

from __future__ import annotations

from sanic import HTTPResponse, Request

from infrs.api.chat.prepare import prepare as prepare_chat
from infrs.api.chat.presenter import STREAM_FORM
from infrs.api.chat.request import parse_chat_request
from infrs.api.completions.prepare import prepare
from infrs.api.completions.request import parse_completion_request
from infrs.http.routes.generate import generate, read_body


async def chat_completions(request: Request) -> HTTPResponse | None:
    """Answer a conversation, streamed or whole."""
    parsed = await read_body(request, parse_chat_request)
    return await generate(request, parsed, prepare_chat, STREAM_FORM if parsed.body.stream else None)


async def completions(request: Request) -> HTTPResponse | None:
    """Continue one text or several, streamed or whole."""
    parsed = await read_body(request, parse_completion_request)
    return await generate(request, parsed, prepare, STREAM_FORM if parsed.body.stream else None)
