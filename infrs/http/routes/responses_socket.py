"""The WebSocket of `/v1/responses`: a client sends requests as events, and receives the events of a stream.

Requests are answered one at a time, in order. Each has the deadline, the queue and the log line of an HTTP request.
Source: https://developers.openai.com/api/docs/guides/websocket-mode
"""

from __future__ import annotations

import asyncio
import time
from asyncio.transports import Transport
from collections.abc import Iterable, Mapping
from typing import Any, cast

import orjson
from sanic import HTTPResponse, Request

from infrs.api.common.errors import TOO_MANY_CONNECTIONS, TooManyConnectionsError, UpgradeRequiredError
from infrs.api.output.prepared import Prepared
from infrs.api.responses.history import StoredConversation, open_conversation
from infrs.api.responses.prepare import prepare, prepare_warm_up
from infrs.api.responses.presenter import Framing
from infrs.api.responses.request import SocketRequest, parse_socket_request
from infrs.api.responses.store import ConnectionResponses
from infrs.core import RequestContext
from infrs.http.connection.protocol import BoundedHttp
from infrs.http.connection.stalled_client import StalledClient
from infrs.http.connection.websocket import WebSocket
from infrs.http.error_handler import CLIENT_GONE
from infrs.http.observability import access_log as access
from infrs.http.respond import answer_to
from infrs.http.routes.generate import LONG_BODY, Parsed, prepared_by, read_body
from infrs.http.state import ServerState, context_of, state_of
from infrs.models.loaded import LoadedModel

MAX_SECONDS = 3600.0  # of a connection, as with OpenAI
_GOING_AWAY, _NORMAL = 1001, 1000
_AGED = {
    "type": "invalid_request_error",
    "code": "websocket_connection_limit_reached",
    "message": "this WebSocket is an hour old, which is the limit; open another one",
    "param": None,
}


async def connect(request: Request) -> HTTPResponse | None:
    """Answer the requests that arrive on a WebSocket, until it closes."""
    state, stream = state_of(request), cast(BoundedHttp, request.stream)
    state.require_models()
    if request.headers.get("upgrade", "").lower() != "websocket":
        raise UpgradeRequiredError("GET opens a WebSocket here; send its handshake, or send POST")
    connection = stream.connection
    if connection.place.reserved:
        raise TooManyConnectionsError(TOO_MANY_CONNECTIONS)
    local = ConnectionResponses(state.responses, context_of(request).tenant)
    socket = stream.accept_websocket(request, access.request_id(request))
    access.finished(request, 101)
    stop = asyncio.create_task(_stop_with(state, socket))
    deadline = asyncio.get_running_loop().time() + MAX_SECONDS
    try:
        turns = _Turns(request, socket, local)
        while True:
            if not socket.has_message:
                connection.open_connections.wait(connection.place)  # it may lose its place to another one
            message = await socket.receive(deadline)
            connection.open_connections.begin(connection.place)
            if message is None:
                break
            await turns.answer(message)
        if not socket.stopping:
            await socket.send([orjson.dumps({"type": "error", "status": 400, "error": _AGED})])
        await socket.close(_GOING_AWAY if socket.stopping else _NORMAL, "")
    finally:
        stop.cancel()
        local.close()
    return None


connect.is_websocket = True  # type: ignore[attr-defined]  # Sanic then expects no response


async def _stop_with(state: ServerState, socket: WebSocket) -> None:
    """End a WebSocket that waits when the server stops."""
    await state.stopping.wait()
    socket.stop()


class _Turns:
    """Answers the messages of one WebSocket, one after the other."""

    def __init__(self, request: Request, socket: WebSocket, local: ConnectionResponses) -> None:
        self._request = request
        self._socket = socket
        self._local = local
        self._request_id = access.request_id(request)
        self._num_turns = 0
        self._event: dict[str, Any] = {}  # as the client sent it

    async def answer(self, message: bytes) -> None:
        """Answer a message with the events of a response, or with an error."""
        self._begin()
        status, output = CLIENT_GONE, _SocketOutput(self._request, self._socket)
        try:
            await self._respond(message, output)
            status = output.status
        except Exception as error:
            status = await self._refuse(error)
        finally:
            if status not in (200, CLIENT_GONE):
                self._local.drop(str(self._event.get("previous_response_id")))
            access.finished(self._request, status)

    def _begin(self) -> None:
        """Give the request the id, the time and the deadline of a new one."""
        self._num_turns += 1
        self._event = {}
        state, ctx = state_of(self._request), self._request.ctx
        ctx.request_id = f"{self._request_id}-{self._num_turns}"
        ctx.received, ctx.submission, ctx.failure = time.perf_counter(), None, {}
        tenant, timeout = context_of(self._request).tenant, state.settings.server.request_timeout
        ctx.context = RequestContext.start(ctx.request_id, tenant, timeout)

    async def _respond(self, message: bytes, output: _SocketOutput) -> None:
        state, request = state_of(self._request), self._request
        request.ctx.tenant()  # raises an error for a key that is not valid any more
        request.body = message
        try:
            parsed = await read_body(request, self._parse)
        finally:
            request.body = b""
        body, max_bytes = parsed.body, state.settings.server.max_body_bytes
        asked = open_conversation(body, state.responses, context_of(request).tenant, max_bytes, self._local)
        is_long = parsed.is_long or asked.num_earlier_bytes > LONG_BODY
        work = prepare_warm_up if body.is_warm_up else prepare
        framing = Framing(self._frame, b"")

        def in_thread(model: LoadedModel, asked: StoredConversation, context: RequestContext) -> Prepared:
            return work(model, asked, context, framing)

        asking = Parsed(asked, is_long)
        async with prepared_by(request, asking, asked.model, in_thread) as (served, prepared):
            if prepared.requests:
                await answer_to(output, request, served, prepared)
            else:
                await output.send([*prepared.presenter.frames(())], end=True)

    def _parse(self, payload: dict[str, Any]) -> SocketRequest:
        self._event = payload
        return parse_socket_request(payload)

    def _frame(self, _: str, payload: Mapping[str, Any]) -> bytes:
        """Return a message. It names the `stream_id` of the request."""
        stream_id = self._event.get("stream_id")
        return orjson.dumps(payload if stream_id is None else {**payload, "stream_id": stream_id})

    async def _refuse(self, error: Exception) -> int:
        """Send an error as an event, with what HTTP would answer. Return its status."""
        response = self._request.app.error_handler.default(self._request, error)
        event = {"type": "error", "status": response.status, **orjson.loads(response.body or b"{}")}
        if "retry-after" in response.headers:
            event["error"]["headers"] = {"retry-after": response.headers["retry-after"]}
        await self._socket.send([self._frame("error", event)])
        return response.status


class _SocketOutput:
    """The events of one response as messages. status: 200, or that of the failure that ended it."""

    def __init__(self, request: Request, socket: WebSocket) -> None:
        self._request = request
        self._socket = socket
        self._stalled_client: StalledClient | None = None
        self.started = False
        self.status = 200

    async def send(self, frames: Iterable[bytes], *, end: bool) -> None:
        """See Output."""
        messages = [frame for frame in frames if frame]
        if not messages:
            return
        self.started = True
        if self._stalled_client is None:
            transport = cast(Transport, self._request.transport)
            self._stalled_client = StalledClient(transport, state_of(self._request).settings.server.send_timeout)
        await self._socket.send(messages)

    def close(self, status: int) -> None:
        """See Output."""
        self.status = status
        if self._stalled_client is not None:
            self._stalled_client.close()
