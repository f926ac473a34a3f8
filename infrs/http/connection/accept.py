"""Accept connections. One that has sent nothing is only a socket: no transport, no protocol, no task.

Clients that open connections and send nothing then cost little: 40 us and 1 KiB each instead of 100 us and 8 KiB. So a
flood of them is not refused by its address, which others can share, but held and closed cheaply. After a full batch the
event loop serves others for a moment, and the kernel holds the next connections.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from infrs.http.connection.limits import Connections, address_of

logger = logging.getLogger("infrs.server")

_BACKLOG = 2048  # connections that the kernel holds; beyond it, a client's next try is a second later
_BATCH = 32  # connections; about 1 ms for those that send nothing
_PAUSE = 0.001  # seconds after a full batch
_SHORTAGE_PAUSE = 1.0
_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Place:
    """A connection's place among the open ones, from its start to its end.

    address: see `address_of`. opened: the loop's time. admitted: whether it got the place at its accept. reserved: see
    `Connections`. dropped: whether it is closed to make room. close: closes it without an answer; None while its
    transport is made.
    """

    __slots__ = ("address", "admitted", "close", "dropped", "opened", "reserved")

    def __init__(self, address: str, opened: float) -> None:
        self.address = address
        self.opened = opened
        self.admitted = self.reserved = self.dropped = False
        self.close: Callable[[], None] | None = None

    def drop(self) -> None:
        """See `infrs.http.connection.limits.Connection`."""
        self.dropped = True
        if self.close is not None:
            self.close()


class Acceptor:
    """Accepts the connections of a listener, and makes a protocol for each as soon as its client sends something."""

    def __init__(
        self,
        listener: socket.socket,
        connections: Connections,
        new_protocol: Callable[[Place], asyncio.Protocol],
        silence: float,
    ) -> None:
        """silence: seconds until a connection is closed on which a client has sent nothing."""
        self._listener = listener
        self._connections = connections
        self._new_protocol = new_protocol
        self._silence = silence
        self._loop = asyncio.get_running_loop()
        self._silent: OrderedDict[socket.socket, Place] = OrderedDict()  # oldest first
        self._opening: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None  # of the oldest silent connection
        self._pause: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Listen."""
        self._listener.setblocking(False)
        self._listener.listen(_BACKLOG)
        self._resume()

    async def close(self) -> None:
        """Close the listener and the connections that have sent nothing. Wait until the others have a protocol."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()
        for connection, place in list(self._silent.items()):
            self._end(connection, place)
        if self._opening:
            await asyncio.wait(self._opening)

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listener, self._accept)

    def _rest(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        self._pause = self._loop.call_later(seconds, self._resume)

    def _accept(self) -> None:
        for _ in range(_BATCH):
            try:
                connection, peer = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _SHORTAGES:
                    raise
                logger.error("cannot accept connections for a second: %s; raise the limit of open files", error)
                self._rest(_SHORTAGE_PAUSE)
                return
            self._take(connection, address_of(peer))
        self._rest(_PAUSE)

    def _take(self, connection: socket.socket, address: str) -> None:
        connection.setblocking(False)
        place = Place(address, self._loop.time())
        place.admitted = self._connections.admit(place)
        if not place.admitted:
            self._open(connection, place)
            return
        place.close = partial(self._discard, connection)
        self._silent[connection] = place
        self._loop.add_reader(connection, self._hear, connection)
        if self._timer is None:
            self._timer = self._loop.call_later(self._silence, self._expire)

    def _hear(self, connection: socket.socket) -> None:
        """Open a connection on which a client has sent something, or take notice of its end."""
        place = self._silent[connection]
        with suppress(OSError):
            if connection.recv(1, socket.MSG_PEEK):
                del self._silent[connection]
                self._loop.remove_reader(connection)
                self._open(connection, place)
                return
        self._end(connection, place)

    def _expire(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._silent:
            connection, place = next(iter(self._silent.items()))
            if place.opened + self._silence > now:
                self._timer = self._loop.call_at(place.opened + self._silence, self._expire)
                return
            self._end(connection, place)

    def _end(self, connection: socket.socket, place: Place) -> None:
        self._connections.remove(place)
        self._discard(connection)

    def _discard(self, connection: socket.socket) -> None:
        del self._silent[connection]
        self._loop.remove_reader(connection)
        connection.close()

    def _open(self, connection: socket.socket, place: Place) -> None:
        place.close = None
        task = self._loop.create_task(self._make(connection, place))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _make(self, connection: socket.socket, place: Place) -> None:
        try:
            transport, _ = await self._loop.connect_accepted_socket(partial(self._new_protocol, place), connection)
        except OSError:
            self._connections.remove(place)
            connection.close()
            return
        if place.dropped:
            transport.abort()
