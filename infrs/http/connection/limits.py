"""Limit the open connections: in total and for each address, with a reserve for requests that must get in.

A connection that waits for a request loses nothing when it is closed, so it makes room for a new one. If all have
requests, the reserve takes the new one. It serves only health checks and requests with an API key.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Protocol


class Connection(Protocol):
    """An open connection. address: see `address_of`. reserved: whether it has a place in the reserve."""

    address: str
    reserved: bool

    def drop(self) -> None:
        """Close the connection without an answer."""


class Connections:
    """The open connections of a server.

    A connection waits until its request's head is accepted, and again after the answer. num_lingering: refused
    connections that stay open for a moment, so that their clients can read the answer.
    """

    def __init__(self, limit: int, limit_per_address: int, count: Callable[[], object] = lambda: None) -> None:
        """limit_per_address: 0 is three quarters of `limit`. The reserve is a 32nd of `limit` on top of it.

        count: is called for each connection that is closed to make room.
        """
        self._limit = limit
        self._limit_per_address = limit_per_address or limit - limit // 4
        self._count = count
        self._num_reserve = max(1, limit // 32)
        self.num_lingering = 0
        self._open: set[Connection] = set()
        self._num_by_address: Counter[str] = Counter()  # without the reserve
        self._silent: OrderedDict[Connection, None] = OrderedDict()  # wait for their first request, oldest first
        self._idle: OrderedDict[Connection, None] = OrderedDict()  # wait for another one, oldest first
        self._reserve: OrderedDict[Connection, None] = OrderedDict()  # of the reserve, oldest first

    def admit(self, connection: Connection) -> bool:
        """Give a connection a place, which another may lose. Return False if there is none."""
        if self._has_room(connection.address):
            self._num_by_address[connection.address] += 1
        elif len(self._reserve) < self._num_reserve or self._close_first(iter(self._reserve)):
            connection.reserved = True
            self._reserve[connection] = None
        else:
            return False
        self._open.add(connection)
        self._silent[connection] = None
        return True

    def begin(self, connection: Connection) -> None:
        """Record that the head of a request is accepted."""
        self._silent.pop(connection, None)
        self._idle.pop(connection, None)

    def wait(self, connection: Connection) -> None:
        """Record that a connection waits for another request."""
        if connection in self._open:
            self._idle[connection] = None

    def remove(self, connection: Connection) -> None:
        """Take the place of a connection. Idempotent."""
        if connection not in self._open:
            return
        self._open.remove(connection)
        self.begin(connection)
        if connection.reserved:
            del self._reserve[connection]
            return
        self._num_by_address[connection.address] -= 1
        if not self._num_by_address[connection.address]:
            del self._num_by_address[connection.address]

    def _has_room(self, address: str) -> bool:
        """Return whether an address may have another connection, after one of its own or of all made room for it."""
        waiting = chain(self._silent, self._idle)
        if address and self._num_by_address[address] >= self._limit_per_address:
            return self._close_first(each for each in waiting if each.address == address and not each.reserved)
        if len(self._open) - len(self._reserve) >= self._limit:
            return self._close_first(each for each in waiting if not each.reserved)
        return True

    def _close_first(self, candidates: Iterator[Connection]) -> bool:
        """Close the first connection that waits. Return False if none does."""
        victim = next((each for each in candidates if each in self._silent or each in self._idle), None)
        if victim is None:
            return False
        self.remove(victim)
        victim.drop()
        self._count()
        return True


def address_of(peer: object) -> str:
    """Return the key under which the connections of a peer are counted; "" if it has no IP address.

    peer: what `socket.getpeername` returns. A host has a whole /64 network of IPv6 addresses.
    """
    if not isinstance(peer, tuple):
        return ""  # a Unix socket
    address = ipaddress.ip_address(peer[0].partition("%")[0])
    if address.version == 4:
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))
