"""A WebSocket (RFC 6455) on one connection. The package websockets frames the bytes, without I/O of its own.

The limits are those of HTTP requests: a message has the size and the deadline of a body, and small frames are limited
as small chunks are. Few messages wait while another is answered. A client that reads nothing gets few replies.
There is no compression: it would cost memory on each connection, and one message could expand to any size.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from typing import Protocol

from sanic.exceptions import BadRequest, RequestCancelled
from sanic.request import Request
from websockets.datastructures import Headers
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request as Handshake
from websockets.protocol import State
from websockets.server import ServerProtocol

from infrs.config.settings import ServerSettings

CLOSE_SECONDS = 1.0  # for the client to confirm the end of the connection
_MAX_WAITING = 16  # messages
_FREE_FRAMES = 1024
_MIN_MEAN_FRAME = 64  # bytes, after the first frames
_SLICE = 4096  # bytes; a frame costs the event loop as much time as hundreds of bytes
_MAX_UNREAD = 64  # replies to pings that the client has not read
_DATA = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)

logger = logging.getLogger("infrs.websocket")
logger.setLevel(logging.WARNING)  # the package reports each end of a connection


class Carrier(Protocol):
    """The connection below a WebSocket."""

    @property
    def transport(self) -> asyncio.Transport | None:
        """Return its transport."""

    @property
    def is_writable(self) -> bool:
        """Return whether the client has read nearly all that was sent."""

    async def send(self, data: bytes) -> None:
        """Write, after the client has read nearly all that was sent before."""


class WebSocket:
    """One WebSocket. Its methods belong to the event loop.

    stopping: whether to end when no message waits.
    """

    def __init__(self, carrier: Carrier, frames: ServerProtocol, settings: ServerSettings) -> None:
        self._carrier = carrier
        self._frames = frames
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._messages: deque[bytes] = deque()
        self._message = bytearray()
        self._is_within = False  # a message of several frames
        self._num_frames = self._num_bytes = self._num_unread = 0
        self._changed, self._lost = asyncio.Event(), asyncio.Event()
        self._late: asyncio.TimerHandle | None = None
        self._pinger = self._loop.call_later(settings.ping_interval, self._ping)
        self.stopping = False

    def feed(self, data: bytes) -> None:
        """Take bytes from the connection."""
        for start in range(0, len(data), _SLICE):
            if self._frames.state is State.CLOSED:
                return
            self._frames.receive_data(data[start : start + _SLICE])
            for frame in self._frames.events_received():
                self._take(frame)
            self._reply()
        is_partial = self._is_within or bool(self._frames.reader.buffer)
        if not is_partial:
            self._arrived()
        elif self._late is None:
            self._late = self._loop.call_later(
                self._settings.body_timeout,
                self._fail,
                CloseCode.POLICY_VIOLATION,
                "the message did not arrive in time",
            )

    @property
    def has_message(self) -> bool:
        """Return whether a message waits."""
        return bool(self._messages)

    async def receive(self, deadline: float) -> bytes | None:
        """Return the next message; None at the deadline, on the loop's clock, and when the server stops."""
        try:
            async with asyncio.timeout_at(deadline):
                while not self._messages and not self.stopping:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return None
        return self._messages.popleft() if self._messages else None

    async def send(self, messages: Iterable[bytes]) -> None:
        """Send texts, each as a message. Raises RequestCancelled if the client has closed the WebSocket."""
        for message in messages:
            if self._frames.state is not State.OPEN:
                raise RequestCancelled
            self._frames.send_text(message)
        if data := b"".join(self._frames.data_to_send()):
            await self._carrier.send(data)

    def stop(self) -> None:
        """End the wait for messages."""
        self.stopping = True
        self._changed.set()

    async def close(self, code: int, reason: str) -> None:
        """Close the WebSocket and give the client a moment to confirm."""
        if self._frames.state is State.OPEN:
            self._frames.send_close(code, reason)
            self._reply()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._lost.wait()
        except TimeoutError:
            return

    def lost(self) -> None:
        """Note that the connection is lost."""
        self._pinger.cancel()
        self._arrived()
        self._lost.set()

    def _take(self, frame: object) -> None:
        """Take a frame: add its data to the message, or a whole message to those that wait."""
        if not isinstance(frame, Frame):
            return
        self._num_frames += 1
        self._num_bytes += len(frame.data)
        if self._num_frames > _FREE_FRAMES and self._num_bytes < _MIN_MEAN_FRAME * self._num_frames:
            self._fail(CloseCode.POLICY_VIOLATION, "the frames are too small; send each message in one")
        elif frame.opcode in _DATA:
            self._message += frame.data
            self._is_within = not frame.fin
            if frame.fin:
                self._add(bytes(self._message))
                self._message.clear()

    def _add(self, message: bytes) -> None:
        self._arrived()
        num_bytes = sum(map(len, self._messages)) + len(message)
        if len(self._messages) >= _MAX_WAITING or num_bytes > self._settings.max_body_bytes:
            self._fail(CloseCode.POLICY_VIOLATION, "too many messages wait; send the next one after an answer")
            return
        self._messages.append(message)
        self._changed.set()

    def _arrived(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _ping(self) -> None:
        """Keep proxies from closing a silent connection."""
        if self._frames.state is State.OPEN:
            if self._carrier.is_writable:
                self._frames.send_ping(b"")
                self._reply()
            self._pinger = self._loop.call_later(self._settings.ping_interval, self._ping)

    def _fail(self, code: CloseCode, reason: str) -> None:
        if self._frames.state is State.OPEN:
            self._frames.fail(code, reason)
            self._reply()

    def _reply(self) -> None:
        """Write control frames. The end of the frames closes the connection, which cancels what runs for it."""
        transport = self._carrier.transport
        if transport is None:
            return
        for data in self._frames.data_to_send():
            if not data:
                transport.close()
                return
            self._num_unread = 0 if self._carrier.is_writable else self._num_unread + 1
            if self._num_unread > _MAX_UNREAD:
                transport.abort()
                return
            transport.write(data)


def accept(request: Request, request_id: str, settings: ServerSettings) -> tuple[ServerProtocol, bytes]:
    """Return the framing and the answer of a WebSocket handshake. Raises BadRequest for an invalid one."""
    frames = ServerProtocol(state=State.OPEN, max_size=settings.max_body_bytes, logger=logger)
    response = frames.accept(Handshake(request.path, Headers(list(request.headers.items()))))
    if response.status_code != 101 or request.version != "1.1":
        raise BadRequest
    response.headers["x-request-id"] = request_id
    return frames, response.serialize()
