"""`POST /v1/messages` and `POST /v1/messages/count_tokens`."""

from __future__ import annotations

from functools import partial

from sanic import HTTPResponse, Request

from infrs.api.anthropic.prepare import count_tokens as count
from infrs.api.anthropic.prepare import prepare
from infrs.api.anthropic.presenter import STREAM_FORM
from infrs.api.anthropic.request import CountTokensRequest, MessagesRequest, check_version
from infrs.api.common.fields import parse_body
from infrs.api.common.ignored import ignored
from infrs.http.routes.generate import compute, generate, read_body

_VERSION = "anthropic-version"


async def messages(request: Request) -> HTTPResponse | None:
    """Answer a conversation, streamed or whole."""
    check_version(request.headers.get(_VERSION))
    parsed = await read_body(request, partial(parse_body, MessagesRequest))
    return await generate(request, parsed, prepare, STREAM_FORM if parsed.body.stream else None)


async def count_tokens(request: Request) -> HTTPResponse:
    """Count the tokens of a conversation's prompt."""
    check_version(request.headers.get(_VERSION))
    parsed = await read_body(request, partial(parse_body, CountTokensRequest))
    return await compute(request, parsed, count, ignored)
