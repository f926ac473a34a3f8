"""Send the answers of a request, whole or streamed, in the format of a presenter."""

from __future__ import annotations

import time
from asyncio.transports import Transport
from collections.abc import Mapping
from typing import cast

from sanic import HTTPResponse
from sanic import Request as HTTPRequest

from infrs.api.common.errors import status_of
from infrs.api.common.ignored import header
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
from infrs.models.bridge import DeltaStream
from infrs.models.served import ServedChatModel


async def answer(request: HTTPRequest, model: ServedChatModel, prepared: Prepared) -> HTTPResponse | None:
    """Run prepared requests and send their answers; None if they were streamed. Raises as `ServedChatModel.submit`."""
    context = context_of(request).for_model(model.model_id)
    requests, presenter, headers = prepared.requests, prepared.presenter, header(prepared.ignored)
    deltas = model.submit(requests, context, state_of(request).settings.server.queue_timeout)
    meter = Meter(model.metrics, request.ctx.received)
    ids = [each.request_id for each in requests]
    request.ctx.submission = Submission(context, ids, time.perf_counter(), meter)
    try:
        if prepared.stream:
            await _Streamed(request, presenter, headers).send(deltas, meter)
            return None
        return await _whole(prepared, deltas, meter, headers)
    finally:
        deltas.close()
        meter.close()


async def _whole(prepared: Prepared, stream: DeltaStream, meter: Meter, headers: Mapping[str, str]) -> HTTPResponse:
    deltas: list[Delta] = []
    async for batch in stream:
        meter.count(batch)
        prepared.observe(batch)
        deltas += batch
    return HTTPResponse(prepared.presenter.whole(deltas), headers=dict(headers), content_type=JSON)


class _Streamed:
    """One streamed answer. Its headers are sent with the first token, so that an earlier failure has its own status.

    After `server.ping_interval` seconds of silence it sends a ping, with the headers if necessary. Proxies close silent
    connections, and only sending reveals a lost client.
    """

    def __init__(self, request: HTTPRequest, presenter: Presenter, headers: Mapping[str, str]) -> None:
        self._request = request
        self._presenter = presenter
        self._headers = {"cache-control": "no-cache", "x-accel-buffering": "no", **headers}
        self._response: HTTPResponse | None = None
        self._stalled_client: StalledClient | None = None
        self._interval = state_of(request).settings.server.ping_interval

    async def send(self, stream: DeltaStream, meter: Meter) -> None:
        """Send the deltas as they arrive, each batch in one write."""
        status = CLIENT_GONE
        silence = Keepalive(stream, self._interval)
        try:
            async for deltas in stream:
                if not deltas:
                    await self._send(self._presenter.ping, end=False)
                    continue
                meter.count(deltas)
                frames = b"".join(self._presenter.frames(deltas))
                await self._send(frames, end=self._presenter.finished)
            status = 200
        except Exception as error:
            if self._response is None:
                raise
            failure = error if isinstance(error, InfrsError) else InfrsError("the server failed; see its log")
            status = status_of(failure)
            if status == 500:
                log_failure(error)
            await self._send(self._presenter.failed(failure), end=True)
        finally:
            silence.close()
            if self._stalled_client is not None:
                self._stalled_client.close()
            if self._response is not None:
                access.finished(self._request, status)

    async def _send(self, data: bytes, *, end: bool) -> None:
        """Write. A client that reads nothing for `server.send_timeout` seconds is cut, which cancels this task."""
        if self._response is None:
            self._response = await self._request.respond(
                content_type=self._presenter.content_type, headers=self._headers
            )
            transport = cast(Transport, self._request.transport)
            self._stalled_client = StalledClient(transport, state_of(self._request).settings.server.send_timeout)
        if data:
            await self._response.send(data, end)
