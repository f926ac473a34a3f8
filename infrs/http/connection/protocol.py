"""Sanic's HTTP/1.1 protocol with limits that it lacks.

Sanic's timers measure inactivity: a byte per second keeps a connection open forever. Here the head and the body of a
request each have a deadline, the framing of chunks is strict, and connections are limited. The first head's deadline
counts from the connection's start. A client that keeps sending during a running request is disconnected, because the
server could not notice its disconnection.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import asyncio
import logging
import re
import socket
import uuid
from asyncio.transports import BaseTransport, Transport
from collections.abc import Mapping
from typing import Any, cast

from sanic import Sanic
from sanic.exceptions import BadRequest, PayloadTooLarge, RequestTimeout
from sanic.http import Http, Stage
from sanic.http.http1 import HTTP_CONTINUE
from sanic.models.protocol_types import TransportProtocol
from sanic.models.server_types import ConnInfo
from sanic.request import Request
from sanic.server.protocols.http_protocol import HttpProtocol

from infrs.api.common.errors import (
    RETRY_AFTER_SECONDS,
    TOO_MANY_CONNECTIONS,
    TooManyConnectionsError,
    body_of,
    error_body,
)
from infrs.config.settings import ServerSettings
from infrs.http.connection.accept import Place
from infrs.http.connection.limits import Connections
from infrs.http.connection.websocket import WebSocket, accept

logger = logging.getLogger("infrs.server")

MAX_HEAD_BYTES = 8192
MAX_PIPELINED_BYTES = 64 << 10
_MAX_UNSENT = 128 << 10
_TLS_RECORD = b"\x16\x03"  # a handshake, RFC 8446 section 5.1; no HTTP request begins so
LINGER_SECONDS = 1.0
_MAX_LINGERING = 64  # connections; they hold file descriptors

# RFC 9112 §7.1, after the preceding line end. Python's int() would also accept 0x2, 1_0 and blanks.
_CHUNK_LINE = re.compile(rb"\r\n[0-9A-Fa-f]{1,16}(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_MAX_CHUNK_LINE = 128
# A chunk costs the event loop as much time as 64 bytes of a body, and one-byte chunks cost eight times their size in
# memory. The first chunks may have any size; after them the mean size must reach a minimum.
_FREE_CHUNKS = 1024
_MIN_MEAN_CHUNK = 64  # bytes
_CHUNKS_PER_TURN = 64

_TOO_MANY = body_of(TooManyConnectionsError(TOO_MANY_CONNECTIONS))
_TLS = error_body("this port serves plain HTTP, not TLS; use http:// in the URL", status=400, code="bad_request")


def notice_lost_peers(listener: socket.socket) -> None:
    """Let the kernel close idle connections to lost peers. Accepted connections inherit this."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", 30),  # seconds without a byte until the first probe
        ("TCP_KEEPINTVL", 10),
        ("TCP_KEEPCNT", 3),
    ):
        if hasattr(socket, name):  # not every system has all three
            listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def limit_unsent(listener: socket.socket) -> None:
    """Let the kernel take few bytes that it cannot send yet, so that the server notices a reader that is behind.

    The default is the whole send buffer, which grows to 4 MiB. What is on its way to a far client does not count.
    """
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # not every system has it
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _MAX_UNSENT)


class BoundedHttp(Http):
    """The requests and responses of one connection."""

    __slots__ = ("_connection", "_deadline", "_is_first", "_loop", "_num_chunks", "_settings")

    def __init__(self, protocol: BoundedProtocol) -> None:
        super().__init__(protocol)
        self._receive_more = self._receive_in_time
        self._settings: ServerSettings = protocol.app.ctx.state.settings.server
        self._loop = protocol.loop
        self._deadline: float | None = None
        self._connection = protocol
        self._is_first = True

    def init_for_request(self) -> None:
        """Begin to wait for a request: `server.header_timeout` for the first, later ones `KEEP_ALIVE_TIMEOUT`."""
        super().init_for_request()
        self._num_chunks = 0
        if self._is_first:
            self._is_first = False
            self._deadline = self._connection.place.opened + self._settings.header_timeout
        else:
            self._deadline = None
            self._connection.open_connections.wait(self._connection.place)

    async def http1(self) -> None:
        """Serve the connection. After an error, wait so that the client can read it before a reset."""
        try:
            await super().http1()
        except TimeoutError:  # nothing has arrived
            return
        transport = self.protocol.transport
        if self.response and self.response.status >= 400 and transport and not transport.is_closing():
            transport.write_eof()
            self._deadline = self._loop.time() + LINGER_SECONDS
            try:
                while True:
                    self.recv_buffer.clear()
                    await self._receive_more()
            except TimeoutError:
                return

    async def http1_request_header(self) -> None:
        """Read a head. Raises RequestTimeout if it is incomplete after `server.header_timeout` seconds."""
        if self._deadline is None:
            self._deadline = self._loop.time() + self._settings.header_timeout
        try:
            await super().http1_request_header()
        except TimeoutError:
            raise RequestTimeout from None
        except asyncio.CancelledError:  # the server stops; Sanic logs the request
            self.create_empty_request()
            raise
        self.upgrade_websocket = False  # until a route accepts one; Sanic would drop its timers
        self._deadline = self._loop.time() + self._settings.body_timeout
        self._connection.open_connections.begin(self._connection.place)
        if self._connection.place.reserved:
            self.keep_alive = False

    @property
    def connection(self) -> BoundedProtocol:
        """The connection of the requests."""
        return self._connection

    def allow_upload(self, seconds: float) -> None:
        """Give the body of this request another duration than `server.body_timeout`."""
        self._deadline = self._loop.time() + seconds

    def accept_websocket(self, request: Request, request_id: str) -> WebSocket:
        """Open the WebSocket that a request asks for. Raises BadRequest for an invalid handshake."""
        frames, answer = accept(request, request_id, self._settings)
        transport = cast(Transport, request.transport)
        socket = self._connection.websocket = WebSocket(self._connection, frames, self._settings)
        self.upgrade_websocket = True  # ends Sanic's timers
        transport.write(answer)
        early = bytes(self.recv_buffer)
        self.recv_buffer.clear()
        transport.resume_reading()
        socket.feed(early)
        return socket

    async def error_response(self, exception: Exception) -> None:
        """Answer an error, unless the connection is a WebSocket, where HTTP has no place."""
        if self._connection.websocket is None:
            await super().error_response(exception)

    async def read(self) -> bytes | None:
        """Return some bytes of the body, None at its end.

        Raises BadRequest for malformed chunks, PayloadTooLarge for too many small ones, RequestTimeout if the body is
        incomplete `server.body_timeout` seconds after the head.
        """
        try:
            if self._is_chunked and self.request_bytes_left == 0:
                await self._check_chunk_line()
            data: bytes | None = await super().read()
        except TimeoutError:
            self.keep_alive = False
            self.request_body = None  # no more bytes will arrive
            if self.stage is not Stage.HANDLER:  # the answer is sent; the rest of the body is ignored
                return None
            raise RequestTimeout from None
        if data is None and self.protocol.transport:
            # A body that filled the buffer has paused reading, so that a disconnection would not be noticed.
            self.protocol.transport.resume_reading()
        return data

    @property
    def _is_chunked(self) -> bool:
        kind: object = self.request_body  # Sanic's annotation is wrong
        return kind == "chunked"

    async def _check_chunk_line(self) -> None:
        if self.expecting_continue:
            self.expecting_continue = False
            await self._send(HTTP_CONTINUE)
        if self._num_chunks > _FREE_CHUNKS and (self.request_bytes or 0) < _MIN_MEAN_CHUNK * self._num_chunks:
            self.keep_alive = False
            raise PayloadTooLarge
        self._num_chunks += 1
        if self._num_chunks % _CHUNKS_PER_TURN == 0:
            await asyncio.sleep(0)  # buffered chunks never wait: give other tasks a turn
        buffer = self.recv_buffer
        while (end := buffer.find(b"\r\n", 2, _MAX_CHUNK_LINE)) < 0 and len(buffer) < _MAX_CHUNK_LINE:
            await self._receive_more()
        if end < 0 or not _CHUNK_LINE.fullmatch(buffer, 0, end + 2):
            self.keep_alive = False
            raise BadRequest

    async def _receive_in_time(self) -> None:
        """Wait for bytes. Raises TimeoutError at the deadline of the head or the body."""
        async with asyncio.timeout_at(self._deadline):
            await self.protocol.receive_more()


class BoundedProtocol(HttpProtocol):
    """One connection, within the limits of the server settings."""

    HTTP_CLASS = BoundedHttp
    __slots__ = ("open_connections", "place", "websocket")

    def __init__(
        self,
        place: Place,
        app: Sanic[Any, Any],
        loop: asyncio.AbstractEventLoop,
        connections: set[BoundedProtocol],
    ) -> None:
        """place: of the connection. connections: all open ones of the server, for its end."""
        super().__init__(app=app, loop=loop, connections=connections)
        self.place = place
        self.open_connections: Connections = app.ctx.state.connections
        self.websocket: WebSocket | None = None

    @property
    def is_writable(self) -> bool:
        """See Carrier."""
        return bool(self._can_write.is_set())

    def connection_made(self, transport: BaseTransport) -> None:
        """Accept the connection, or answer 503 if there is no place for it."""
        self.place.close = self._drop
        # Try again: since the accept, one that has had its answer may have ended.
        if self.place.admitted or self.open_connections.admit(self.place):
            super().connection_made(transport)
            return
        self.app.ctx.state.metrics.refused_connections.inc()
        stream = self.transport = cast(Transport, transport)
        self.conn_info = ConnInfo(cast(TransportProtocol, transport))
        stream.write(_refusal("503 Service Unavailable", _TOO_MANY, {"retry-after": str(RETRY_AFTER_SECONDS)}))
        if self.open_connections.num_lingering >= _MAX_LINGERING:
            stream.close()
            return
        stream.write_eof()
        self.open_connections.num_lingering += 1
        self.loop.call_later(LINGER_SECONDS, self._end_refusal)

    def _end_refusal(self) -> None:
        self.open_connections.num_lingering -= 1
        if self.transport:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Free the place of the connection."""
        self.open_connections.remove(self.place)
        if self.websocket is not None:
            self.websocket.lost()
        super().connection_lost(exc)

    def _drop(self) -> None:
        """Close the connection, which waits for a request, to make room for another."""
        if self.transport:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Buffer bytes. Disconnect a client that sends too many after a complete request that still runs."""
        if self._task is None:  # refused or closing
            return
        if self.websocket is not None:
            self.websocket.feed(data)
            return
        http = self.http  # None before the connection's task begins
        waits = http is None or http.stage in (Stage.IDLE, Stage.REQUEST)
        if waits and (self.recv_buffer[:2] + data[:2]).startswith(_TLS_RECORD):
            self._refuse_tls()
            return
        super().data_received(data)
        http = self.http
        runs = http and http.stage in (Stage.HANDLER, Stage.RESPONSE) and not http.request_body
        if runs and len(self.recv_buffer) >= MAX_PIPELINED_BYTES and self.transport:
            self.transport.abort()  # not self.abort(), after which Sanic fails on a None of its own

    def _refuse_tls(self) -> None:
        """Close a connection that begins with TLS. Its client names the plain answer as the wrong version of TLS."""
        logger.warning("a client spoke TLS to this port, which serves plain HTTP; use http:// in its URL")
        if self.transport:
            self.transport.write(_refusal("400 Bad Request", _TLS))
            self.transport.close()


def _refusal(status: str, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """Return a whole response, for a connection that no request has been read from."""
    fields = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "x-request-id": uuid.uuid4().hex,
        "connection": "close",
        **(headers or {}),
    }
    head = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*head, "", ""]).encode() + body
