"""`/tokenize`, `/tokenizer_info`, `/detokenize` and `/apply-template`."""

from __future__ import annotations

from functools import partial

import orjson
from sanic import HTTPResponse, Request

from infrs.api.common.fields import parse_body
from infrs.api.common.ignored import ignored
from infrs.api.tokens import tokenize as api
from infrs.api.tokens.request import ApplyTemplateRequest, DetokenizeRequest, parse_tokenize_request
from infrs.http.error_handler import JSON
from infrs.http.routes.generate import compute, read_body
from infrs.http.state import context_of, state_of


async def tokenize(request: Request) -> HTTPResponse:
    """Return the token ids of a text, or of a conversation's prompt."""
    return await compute(request, await read_body(request, parse_tokenize_request), api.tokenize, ignored)


async def tokenizer_info(request: Request) -> HTTPResponse:
    """Return the special tokens and the chat template of the chat model."""
    async with state_of(request).require_models().use_chat(None, context_of(request)) as served:
        return HTTPResponse(orjson.dumps(api.tokenizer_info(served.model)), content_type=JSON)


async def detokenize(request: Request) -> HTTPResponse:
    """Return the text of token ids."""
    parsed = await read_body(request, partial(parse_body, DetokenizeRequest))
    return await compute(request, parsed, api.detokenize, ignored)


async def apply_template(request: Request) -> HTTPResponse:
    """Return the prompt of a conversation."""
    parsed = await read_body(request, partial(parse_body, ApplyTemplateRequest))
    return await compute(request, parsed, api.apply_template, ignored)
