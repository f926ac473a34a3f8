"""`/v1/batches`: begin, describe, list and cancel batches."""

from __future__ import annotations

from functools import partial

import orjson
from sanic import HTTPResponse, Request

from infrs.api.batches.request import BatchCreateRequest, window_seconds
from infrs.api.common.fields import parse_body
from infrs.api.output.pages import page
from infrs.batches.batch_record import Batch
from infrs.http.error_handler import JSON
from infrs.http.routes.generate import read_body
from infrs.http.routes.responses import refuse_arguments
from infrs.http.state import context_of, state_of


async def create_batch(request: Request) -> HTTPResponse:
    """Begin a batch."""
    state = state_of(request)
    state.require_models()
    body = (await read_body(request, partial(parse_body, BatchCreateRequest))).body
    batch = await state.require_batches().create(
        context_of(request).tenant,
        input_file_id=body.input_file_id,
        endpoint=body.endpoint,
        completion_window=body.completion_window,
        seconds=window_seconds(body.completion_window),
        kept_seconds=body.output_expires_after.seconds if body.output_expires_after else None,
        metadata=body.metadata,
    )
    return _described(batch)


async def list_batches(request: Request) -> HTTPResponse:
    """Return a page of the batches of an API key, the newest first."""
    refuse_arguments(request, "after", "limit")
    batches = state_of(request).require_batches().store.of(context_of(request).tenant)
    arguments = {name: request.args.get(name) for name in ("after", "limit")}
    return HTTPResponse(page([(batch.id, batch.describe()) for batch in batches], **arguments), content_type=JSON)


async def get_batch(request: Request, batch_id: str) -> HTTPResponse:
    """Describe a batch."""
    return _described(_find(request, batch_id))


async def cancel_batch(request: Request, batch_id: str) -> HTTPResponse:
    """Cancel a batch. The answers so far are kept."""
    batch = _find(request, batch_id)
    await state_of(request).require_batches().cancel(batch)
    return _described(batch)


def _find(request: Request, batch_id: str) -> Batch:
    refuse_arguments(request)
    return state_of(request).require_batches().store.get(context_of(request).tenant, batch_id)


def _described(batch: Batch) -> HTTPResponse:
    return HTTPResponse(orjson.dumps(batch.describe()), content_type=JSON)
