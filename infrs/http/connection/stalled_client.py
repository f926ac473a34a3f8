"""Disconnect a streaming client that reads nothing.

Acknowledged bytes distinguish a slow client from a stalled one. The duration of a write does not, because the kernel
buffers megabytes for the client. TCP_USER_TIMEOUT would disconnect slow clients too.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from asyncio.transports import Transport

_CHECKS = 8  # within the time limit
# Fields of Linux's struct tcp_info: tcpi_unacked (segments), tcpi_bytes_acked, tcpi_notsent_bytes.
_INFO = struct.Struct("=24xI92xQ16xI")


class StalledClient:
    """Watches a connection and aborts it if bytes wait and the client reads none for `seconds`."""

    def __init__(self, transport: Transport, seconds: float) -> None:
        self._transport = transport
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._taken, self._since = -1, self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._check()

    def close(self) -> None:
        """Stop watching."""
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
    """Return (a value that changes with each byte that the peer reads, whether bytes wait)."""
    buffered = transport.get_write_buffer_size()
    if sys.platform != "linux":
        return buffered, buffered > 0
    info = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
    if len(info) < _INFO.size:  # a system that only resembles Linux
        return buffered, buffered > 0
    unacked, acked, unsent = _INFO.unpack(info)
    return acked, bool(buffered or unacked or unsent)
