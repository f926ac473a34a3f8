"""Send the answers of a request, whole or streamed, in the format of a presenter."""

from __future__ import annotations

import time
from asyncio.transports import Transport
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, cast

from sanic import HTTPResponse
from sanic import Request as HTTPRequest

from infrs.api.common.errors import status_of
from infrs.api.common.ignored import header
from infrs.api.common.strict_json import collection_paused
from infrs.api.output.prepared import Prepared, Presenter
from infrs.core import Delta
from infrs.errors import InfrsError
from infrs.http.connection.keepalive import Keepalive
from infrs.http.connection.stalled_client import StalledClient
from infrs.http.error_handler import CLIENT_GONE, JSON, log_failure
from infrs.http.observability import access_log as access
from infrs.http.observability.request_metrics import Meter
from infrs.http.observability.tracing import Submission
from infrs.http.state import context_of, state_of
from infrs.models.bridge import DeltaStream, num_bytes
from infrs.models.served import ServedChatModel

_LARGE = 1 << 19  # bytes of deltas; to format more takes over 15 ms


class Output(Protocol):
    """Where the events of a streamed answer go."""

    @property
    def started(self) -> bool:
        """Return whether the client has received anything. A failure before that has its own status."""

    async def send(self, frames: Iterable[bytes], *, end: bool) -> None:
        """Send events. A client that reads nothing for `server.send_timeout` seconds is cut, which cancels the task."""

    def close(self, status: int) -> None:
        """Note that the answer has ended. status: of the request, for the log."""


async def answer(
    request: HTTPRequest, model: ServedChatModel, prepared: Prepared, output: BodyStream | None = None
) -> HTTPResponse | None:
    """Run prepared requests and send their answers; None if they were streamed. Raises as `ServedChatModel.submit`.

    output: for a streamed answer; None makes one.
    """
    headers = header(prepared.ignored)
    if prepared.stream:
        output = output or BodyStream(request, prepared.presenter.content_type)
        output.headers |= headers
        await answer_to(output, request, model, prepared)
        return None
    with _submitted(request, model, prepared) as (deltas, meter):
        content = await _whole(request, prepared, deltas, meter)
        return HTTPResponse(content, headers=headers, content_type=JSON)


async def answer_to(output: Output, request: HTTPRequest, model: ServedChatModel, prepared: Prepared) -> None:
    """Run prepared requests and stream their answers. Raises as `ServedChatModel.submit`."""
    with _submitted(request, model, prepared) as (deltas, meter):
        await _stream(output, prepared.presenter, deltas, meter, state_of(request).settings.server.ping_interval)


@contextmanager
def _submitted(request: HTTPRequest, model: ServedChatModel, prepared: Prepared) -> Iterator[tuple[DeltaStream, Meter]]:
    """Submit prepared requests for the time of their answer."""
    context = context_of(request).for_model(model.model_id)
    deltas = model.submit(prepared.requests, context, state_of(request).settings.server.queue_timeout)
    meter = Meter(model.metrics, request.ctx.received)
    ids = [each.request_id for each in prepared.requests]
    request.ctx.submission = Submission(context, ids, time.perf_counter(), meter)
    try:
        yield deltas, meter
    finally:
        deltas.close()
        meter.close()


async def _whole(request: HTTPRequest, prepared: Prepared, stream: DeltaStream, meter: Meter) -> bytes:
    """Return the body of an answer that is not streamed. A thread formats a large one. Raises as `TextPool.run`."""
    deltas: list[Delta] = []
    async for batch in stream:
        meter.count(batch)
        prepared.observe(batch)
        deltas += batch

    def work() -> bytes:
        with collection_paused():
            content = prepared.presenter.whole(deltas)
            deltas.clear()  # in this thread: a large answer has a hundred thousand objects
        return content

    if sum(map(num_bytes, deltas)) > _LARGE:
        return await state_of(request).text.run_answer(work, context_of(request))
    return prepared.presenter.whole(deltas)


async def _stream(output: Output, presenter: Presenter, stream: DeltaStream, meter: Meter, interval: float) -> None:
    """Send the deltas as they arrive, each batch in one write.

    After `interval` seconds of silence it sends a ping. Proxies close silent connections, and only sending reveals a
    lost client.
    """
    status = CLIENT_GONE
    silence = Keepalive(stream, interval)
    try:
        async for deltas in stream:
            if not deltas:
                await output.send([presenter.ping], end=False)
                continue
            meter.count(deltas)
            await output.send([*presenter.frames(deltas)], end=presenter.finished)
        status = 200
    except Exception as error:
        if not output.started:
            raise
        status = await send_failure(output, presenter.failed, error)
    finally:
        silence.close()
        output.close(status)


async def send_failure(output: Output, failed: Callable[[InfrsError], bytes], error: Exception) -> int:
    """End a stream that has started with an error, and return its status. failed: see Presenter."""
    failure = error if isinstance(error, InfrsError) else InfrsError("the server failed; see its log")
    status = status_of(failure)
    if status == 500:
        log_failure(error)
    await output.send([failed(failure)], end=True)
    return status


class BodyStream:
    """Events as the body of a response. The headers are sent with the first events, or the first ping."""

    def __init__(self, request: HTTPRequest, content_type: str) -> None:
        self._request = request
        self._content_type = content_type
        self.headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        self._response: HTTPResponse | None = None
        self._stalled_client: StalledClient | None = None
        self._is_closed = False

    @property
    def started(self) -> bool:
        """See Output."""
        return self._response is not None

    async def send(self, frames: Iterable[bytes], *, end: bool) -> None:
        """See Output."""
        if self._response is None:
            self._response = await self._request.respond(content_type=self._content_type, headers=self.headers)
            transport = cast(Transport, self._request.transport)
            self._stalled_client = StalledClient(transport, state_of(self._request).settings.server.send_timeout)
        if data := b"".join(frames):
            await self._response.send(data, end)

    def close(self, status: int) -> None:
        """See Output. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._stalled_client is not None:
            self._stalled_client.close()
        if self._response is not None:
            access.finished(self._request, status)
