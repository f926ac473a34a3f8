"""`POST /v1/completions`."""

from __future__ import annotations

from sanic import HTTPResponse, Request

from infrs.api.completions.prepare import prepare
from infrs.api.completions.request import parse_completion_request
from infrs.http.routes.generate import generate, read_body


async def completions(request: Request) -> HTTPResponse | None:
    """Continue one text or several, streamed or whole."""
    return await generate(request, await read_body(request, parse_completion_request), prepare)
