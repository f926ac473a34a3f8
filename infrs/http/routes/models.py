"""`/v1/models`: list the models, load and unload them."""

from __future__ import annotations

import asyncio
from functools import partial
from urllib.parse import unquote

import orjson
from sanic import HTTPResponse, Request

from infrs.api.common.fields import parse_body
from infrs.api.models import LoadRequest, UnloadRequest, describe
from infrs.api.output import bodies
from infrs.errors import RequestTimeoutError
from infrs.http.error_handler import JSON
from infrs.http.routes.generate import read_body
from infrs.http.state import context_of, state_of
from infrs.models.registry import RegistryEntry


async def list_models(request: Request) -> HTTPResponse:
    """List the models, chat models first."""
    entries = state_of(request).require_models().listed
    return HTTPResponse(bodies.model_list([describe(entry) for entry in entries]), content_type=JSON)


async def get_model(request: Request, model_id: str) -> HTTPResponse:
    """Return a model by its id. A slash in the id may be sent as `/` or `%2F`."""
    entry = state_of(request).require_models().entry(unquote(model_id))
    return HTTPResponse(orjson.dumps(describe(entry)), content_type=JSON)


async def load_model(request: Request) -> HTTPResponse:
    """Load a model, or its new bundle if the cache has one. Return it once it is loaded."""
    body = (await read_body(request, partial(parse_body, LoadRequest))).body
    models = state_of(request).require_models()
    entry = models.entry(body.model)
    try:
        async with asyncio.timeout(context_of(request).remaining):
            await models.ensure_loaded(entry.model_id, reload=body.reload)
    except TimeoutError:
        raise RequestTimeoutError(f"{entry.model_id} still loads; GET /v1/models shows when it is loaded") from None
    except Exception as error:
        raise entry.refusal(error) from error
    return _done(entry)


async def unload_model(request: Request) -> HTTPResponse:
    """Unload a model. Its requests in flight have `server.drain_timeout` seconds to finish."""
    body = (await read_body(request, partial(parse_body, UnloadRequest))).body
    state = state_of(request)
    entry = state.require_models().entry(body.model)
    await state.models.unload(entry.model_id, state.settings.server.drain_timeout)
    return _done(entry)


def _done(entry: RegistryEntry) -> HTTPResponse:
    return HTTPResponse(orjson.dumps({"success": True, **describe(entry)}), content_type=JSON)
