"""Cuts the client of a stream that takes nothing of what waits for it.

What is acknowledged tells the slow from the stalled. How long a write takes does not, since the kernel takes up to
megabytes for the client; nor does the kernel's TCP_USER_TIMEOUT, which ends who is merely slow too.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from asyncio.transports import Transport

_CHECKS = 8  # in the time that a client has
# Of Linux's struct tcp_info: tcpi_unacked (segments), tcpi_bytes_acked, tcpi_notsent_bytes.
_INFO = struct.Struct("=24xI92xQ16xI")


class StalledClient:
    """Watches a connection until it is closed; aborts it if, for `seconds`, bytes wait and none is taken."""

    def __init__(self, transport: Transport, seconds: float) -> None:
        self._transport = transport
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._taken, self._since = -1, self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._check()

    def close(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()

    def _check(self) -> None:
        if self._transport.is_closing():
            return
        now = self._loop.time()
        taken, waiting = _progress(self._transport)
        if taken != self._taken or not waiting:
            self._taken, self._since = taken, now
        elif now - self._since >= self._seconds:
            self._transport.abort()
            return
        self._timer = self._loop.call_later(self._seconds / _CHECKS, self._check)


def _progress(transport: Transport) -> tuple[int, bool]:
    """(what changes with each byte that the peer takes, whether bytes wait for it)."""
    buffered = transport.get_write_buffer_size()
    if sys.platform != "linux":
        return buffered, buffered > 0
    info = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
    if len(info) < _INFO.size:  # a system that only resembles Linux
        return buffered, buffered > 0
    unacked, acked, unsent = _INFO.unpack(info)
    return acked, bool(buffered or unacked or unsent)
