"""`/v1/files`: upload, list, describe, read and delete files."""

from __future__ import annotations

from asyncio.transports import Transport
from functools import partial
from typing import cast

import orjson
from sanic import HTTPResponse, Request

from infrs.api.batches.request import parse_upload
from infrs.api.output.pages import ARGUMENTS, deleted, page
from infrs.batches.disk import in_thread
from infrs.batches.files import StoredFile, Upload, too_large
from infrs.http.connection.stalled_client import StalledClient
from infrs.http.error_handler import JSON
from infrs.http.request_guard import MAX_FORM_BYTES
from infrs.http.routes.batches.multipart import Form
from infrs.http.routes.responses import refuse_arguments
from infrs.http.state import context_of, state_of

BYTES = "application/octet-stream"  # OpenAI's type of any file
_PIECE = 1 << 20  # bytes, of a file that is read or written
_MAX_PAGE = 10_000  # OpenAI's


async def upload(request: Request) -> HTTPResponse:
    """Store a file. Its bytes go to the disk as they arrive."""
    files = state_of(request).require_batches().files
    form = Form(request.headers.get("content-type", ""))
    with files.upload(context_of(request).tenant) as arriving:
        await _receive(request, form, arriving)
        body = parse_upload(form.end(), form.fields)
        kept = body.expires_after.seconds if body.expires_after else None
        stored = await in_thread(lambda: arriving.finish(body.file, body.purpose, kept))
    return _described(stored)


async def _receive(request: Request, form: Form, arriving: Upload) -> None:
    """Read a form to its end, and write its file."""
    content, length = bytearray(), 0
    most = state_of(request).require_batches().files.max_file_bytes
    while (data := await request.stream.read()) is not None:  # type: ignore[union-attr]  # of a route that streams
        length += len(data)
        if length > most + MAX_FORM_BYTES:  # of a body without a length
            raise too_large(most)
        content += form.feed(data)
        if len(content) >= _PIECE:
            await in_thread(partial(arriving.write, content))
            content.clear()
    await in_thread(partial(arriving.write, content))


async def list_files(request: Request) -> HTTPResponse:
    """Return a page of the files of an API key."""
    refuse_arguments(request, "purpose", *ARGUMENTS)
    purpose = request.args.get("purpose")
    files = state_of(request).require_batches().files.of(context_of(request).tenant)
    items = [(file.id, file.describe()) for file in files if purpose in (None, file.purpose)]
    arguments = {name: request.args.get(name) for name in ARGUMENTS}
    return HTTPResponse(page(items, **arguments, default=_MAX_PAGE, most=_MAX_PAGE), content_type=JSON)


async def get_file(request: Request, file_id: str) -> HTTPResponse:
    """Describe a file."""
    return _described(_find(request, file_id))


async def delete_file(request: Request, file_id: str) -> HTTPResponse:
    """Delete a file, unless a batch reads it."""
    file = _find(request, file_id)
    await state_of(request).require_batches().delete(file)
    return HTTPResponse(deleted(file.id, "file"), content_type=JSON)


async def read_file(request: Request, file_id: str) -> HTTPResponse | None:
    """Send the bytes of a file, at the speed of its reader."""
    file, state = _find(request, file_id), state_of(request)
    path = state.require_batches().files.folder.data(file.id)
    with await in_thread(lambda: path.open("rb")) as content:
        response = await request.respond(content_type=BYTES, headers={"content-length": str(file.bytes)})
        watch = StalledClient(cast(Transport, request.transport), state.settings.server.send_timeout)
        try:
            while piece := await in_thread(lambda: content.read(_PIECE)):
                await response.send(piece)
            await response.eof()
        finally:
            watch.close()
    return None


def _find(request: Request, file_id: str) -> StoredFile:
    refuse_arguments(request)
    return state_of(request).require_batches().files.get(context_of(request).tenant, file_id)


def _described(file: StoredFile) -> HTTPResponse:
    return HTTPResponse(orjson.dumps(file.describe()), content_type=JSON)
