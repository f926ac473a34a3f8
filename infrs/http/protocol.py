"""Sanic's HTTP/1.1 with the bounds that it lacks.

Sanic's timers are of inactivity: a byte a second keeps a connection for ever. Here the head and the body of a request
each have a deadline, chunks are framed to the letter, connections are counted, and a client that sends on and on
behind a request that still runs is cut, since its leaving could not be seen any more.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import asyncio
import re
import socket
import uuid
from asyncio.transports import BaseTransport, Transport
from typing import cast

from sanic.exceptions import BadRequest, PayloadTooLarge, RequestTimeout
from sanic.http import Http, Stage
from sanic.http.http1 import HTTP_CONTINUE
from sanic.models.protocol_types import TransportProtocol
from sanic.models.server_types import ConnInfo
from sanic.server.protocols.http_protocol import HttpProtocol

from infrs.api.common.errors import RETRY_AFTER_SECONDS, error_body
from infrs.config.settings import ServerSettings

MAX_HEAD_BYTES = 8192
MAX_PIPELINED_BYTES = 64 << 10
LINGER_SECONDS = 1.0

# RFC 9112 §7.1, after the line end of what came before. Python's int() would also take 0x2, 1_0 and blanks.
_CHUNK_LINE = re.compile(rb"\r\n[0-9A-Fa-f]{1,16}(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_LONGEST_CHUNK_LINE = 128
# A chunk costs the event loop about what 64 bytes of a body do, and a list of one-byte pieces eight times its bytes: so
# many may be of any size, then their average must be as large, and `server.max_body_bytes` bounds how many there are.
_FREE_CHUNKS = 1024
_LEAST_MEAN_CHUNK = 64  # bytes
_CHUNKS_A_TURN = 64

_TOO_MANY = error_body("too many connections are open; try again in a moment", status=503, code="too_many_connections")


def notice_lost_peers(listener: socket.socket) -> None:
    """Let the kernel end idle connections whose peer has vanished without a word. What it accepts inherits this."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", 30),  # seconds without a byte until the peer is asked
        ("TCP_KEEPINTVL", 10),
        ("TCP_KEEPCNT", 3),
    ):
        if hasattr(socket, name):  # not every system has all three
            listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class BoundedHttp(Http):
    """One connection's requests and responses."""

    __slots__ = ("_deadline", "_loop", "_num_chunks", "_settings")

    def __init__(self, protocol: BoundedProtocol) -> None:
        super().__init__(protocol)
        self._receive_more = self._receive_in_time
        self._settings: ServerSettings = protocol.app.ctx.state.settings.server
        self._loop = protocol.loop
        self._deadline: float | None = None

    def init_for_request(self) -> None:
        """Begin to wait for a request, as long as `KEEP_ALIVE_TIMEOUT` allows."""
        super().init_for_request()
        self._deadline = None
        self._num_chunks = 0

    async def http1(self) -> None:
        """Serve the connection. After a refusal, let the client read it before what it still sends resets it."""
        await super().http1()
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
        """Read a head. Raises RequestTimeout if it is not whole `server.header_timeout` seconds from now."""
        self._deadline = self._loop.time() + self._settings.header_timeout
        try:
            await super().http1_request_header()
        except TimeoutError:
            raise RequestTimeout from None
        self.upgrade_websocket = False  # there is none to upgrade to; Sanic would drop all its timers
        self._deadline = self._loop.time() + self._settings.body_timeout

    async def read(self) -> bytes | None:
        """Some bytes of the body, None at its end.

        Raises BadRequest for chunks that are not framed as they must be, PayloadTooLarge for too many small ones,
        RequestTimeout if the body is not whole `server.body_timeout` seconds after the head.
        """
        try:
            if self._is_chunked and self.request_bytes_left == 0:
                await self._check_chunk_line()
            data: bytes | None = await super().read()
        except TimeoutError:
            self.keep_alive = False
            self.request_body = None  # there will be no more of it
            if self.stage is not Stage.HANDLER:  # the answer is out; the rest was only to be read over
                return None
            raise RequestTimeout from None
        if data is None and self.protocol.transport:
            # A body that filled the buffer has left reading paused, and the client's leaving would not be seen.
            self.protocol.transport.resume_reading()
        return data

    @property
    def _is_chunked(self) -> bool:
        kind: object = self.request_body  # which Sanic annotates wrongly
        return kind == "chunked"

    async def _check_chunk_line(self) -> None:
        if self.expecting_continue:
            self.expecting_continue = False
            await self._send(HTTP_CONTINUE)
        if self._num_chunks > _FREE_CHUNKS and (self.request_bytes or 0) < _LEAST_MEAN_CHUNK * self._num_chunks:
            self.keep_alive = False
            raise PayloadTooLarge
        self._num_chunks += 1
        if self._num_chunks % _CHUNKS_A_TURN == 0:
            await asyncio.sleep(0)  # what is buffered is read without waiting: let others have their turn
        buffer = self.recv_buffer
        while (end := buffer.find(b"\r\n", 2, _LONGEST_CHUNK_LINE)) < 0 and len(buffer) < _LONGEST_CHUNK_LINE:
            await self._receive_more()
        if end < 0 or not _CHUNK_LINE.fullmatch(buffer, 0, end + 2):
            self.keep_alive = False
            raise BadRequest

    async def _receive_in_time(self) -> None:
        """Wait for bytes. Raises TimeoutError at the deadline of the part of the request that they belong to."""
        async with asyncio.timeout_at(self._deadline):
            await self.protocol.receive_more()


class BoundedProtocol(HttpProtocol):
    """One connection."""

    HTTP_CLASS = BoundedHttp

    def connection_made(self, transport: BaseTransport) -> None:
        """Take the connection, or answer 503 where `server.max_connections` are open already."""
        state = self.app.ctx.state
        if len(self.connections) < state.settings.server.max_connections:
            super().connection_made(transport)
            return
        state.metrics.refused_connections.inc()
        stream = self.transport = cast(Transport, transport)
        self.conn_info = ConnInfo(cast(TransportProtocol, transport))
        stream.write(_too_many())
        stream.write_eof()
        self.loop.call_later(LINGER_SECONDS, stream.abort)

    def data_received(self, data: bytes) -> None:
        """Take bytes, unless they are too many behind a request that is whole and still runs."""
        if self._task is None:  # refused, or closing
            return
        super().data_received(data)
        http = self.http
        runs = http and http.stage in (Stage.HANDLER, Stage.RESPONSE) and not http.request_body
        if runs and len(self.recv_buffer) >= MAX_PIPELINED_BYTES and self.transport:
            self.transport.abort()  # not self.abort(), after which Sanic trips over its own None


def _too_many() -> bytes:
    head = [
        "HTTP/1.1 503 Service Unavailable",
        "content-type: application/json",
        f"content-length: {len(_TOO_MANY)}",
        f"retry-after: {RETRY_AFTER_SECONDS}",
        f"x-request-id: {uuid.uuid4().hex}",
        "connection: close",
    ]
    return "\r\n".join([*head, "", ""]).encode() + _TOO_MANY
