"""`/tokenize`, `/detokenize` and `/apply-template`."""

from __future__ import annotations

from functools import partial

from sanic import HTTPResponse, Request

from infrs.api.common.fields import parse_body
from infrs.api.common.ignored import ignored
from infrs.api.tokens import tokenize as api
from infrs.api.tokens.request import ApplyTemplateRequest, DetokenizeRequest, parse_tokenize_request
from infrs.http.routes.generate import compute


async def tokenize(request: Request) -> HTTPResponse:
    """Return the token ids of a text, or of a conversation's prompt."""
    return await compute(request, parse_tokenize_request, api.tokenize, ignored)


async def detokenize(request: Request) -> HTTPResponse:
    """Return the text of token ids."""
    return await compute(request, partial(parse_body, DetokenizeRequest), api.detokenize, ignored)


async def apply_template(request: Request) -> HTTPResponse:
    """Return the prompt of a conversation."""
    return await compute(request, partial(parse_body, ApplyTemplateRequest), api.apply_template, ignored)
