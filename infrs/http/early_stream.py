"""Keep the stream of a request alive before its answer begins: while its model loads and its prompt is prepared."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sanic import Request

from infrs.api.output.prepared import StreamForm
from infrs.http.error_handler import CLIENT_GONE
from infrs.http.respond import BodyStream, send_failure
from infrs.http.state import state_of


class EarlyStream:
    """Sends a ping for each `interval` seconds until `ready`. The first one sends the headers of the response."""

    def __init__(self, output: BodyStream, ping: bytes, interval: float) -> None:
        self._output = output
        self._ping = ping
        self._interval = interval
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(interval, self._begin_ping)
        self._sending: asyncio.Task[None] | None = None

    async def ready(self) -> BodyStream:
        """Stop the pings, and return the stream for the answer."""
        self._timer.cancel()
        if self._sending is not None:
            await asyncio.wait([self._sending])
            self._timer.cancel()  # which that ping has set
        return self._output

    def close(self) -> None:
        """Stop the pings, also one that is being sent."""
        self._timer.cancel()
        if self._sending is not None:
            self._sending.cancel()

    def _begin_ping(self) -> None:
        self._sending = self._loop.create_task(self._send_ping())

    async def _send_ping(self) -> None:
        await self._output.send([self._ping], end=False)
        self._timer = self._loop.call_later(self._interval, self._begin_ping)


@asynccontextmanager
async def early_stream(request: Request, form: StreamForm | None) -> AsyncIterator[EarlyStream | None]:
    """Keep the stream of a request alive for the time of the block, until its answer begins.

    form: of the stream, None for an answer that is sent whole. If the block raises an error after a ping, the error
    ends the stream, and the block ends without it.
    """
    if form is None:
        yield None
        return
    output = BodyStream(request, form.content_type)
    early = EarlyStream(output, form.ping, state_of(request).settings.server.ping_interval)
    status = CLIENT_GONE
    try:
        yield early
    except Exception as error:
        await early.ready()
        if not output.started:
            raise
        status = await send_failure(output, form.failed, error)
    finally:
        early.close()
        output.close(status)
