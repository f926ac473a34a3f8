"""WebSockets of tests: the package websockets as a client, and raw frames for what it does not send."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fake_process import MODEL, FakeServer
from websockets.sync.client import ClientConnection, connect

ENDS = {"response.completed", "response.incomplete", "response.failed", "error"}
HANDSHAKE = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}


class Client:
    """A client that sends requests and collects the events of their answers."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    def send(self, **fields: Any) -> None:
        self.connection.send(json.dumps({"type": "response.create", "model": MODEL, "store": False, **fields}))

    def receive(self) -> list[Any]:
        """Return the events of the next answer, up to its end."""
        events = [json.loads(self.connection.recv(timeout=20))]
        while events[-1]["type"] not in ENDS:
            events.append(json.loads(self.connection.recv(timeout=20)))
        return events

    def ask(self, **fields: Any) -> list[Any]:
        self.send(**fields)
        return self.receive()


@contextmanager
def client_of(server: FakeServer, **headers: str) -> Iterator[Client]:
    with connect(f"ws://127.0.0.1:{server.port}/v1/responses", additional_headers=headers, close_timeout=5) as opened:
        yield Client(opened)


def raw_socket(server: FakeServer, extra: bytes = b"") -> socket.socket:
    """Return a connection after its handshake. extra: bytes that arrive with it."""
    opened = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    fields = {"host": "localhost", **HANDSHAKE}
    head = "\r\n".join(["GET /v1/responses HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())])
    opened.sendall(head.encode() + b"\r\n\r\n" + extra)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += opened.recv(1)
    assert answer.startswith(b"HTTP/1.1 101 ")
    return opened


def frame(opcode: int, data: bytes, *, fin: bool = True) -> bytes:
    """Return a masked frame, as clients send it."""
    size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + struct.pack("!H", len(data))
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
    return bytes([0x80 * fin | opcode]) + size + mask + masked


def read_frames(opened: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Yield opcodes and data until the connection ends."""
    stream = opened.makefile("rb")
    while len(head := stream.read(2)) == 2:
        size = head[1] & 0x7F
        if size >= 126:
            width = 2 if size == 126 else 8
            size = int.from_bytes(stream.read(width))
        yield head[0] & 0x0F, stream.read(size)


def close_code(opened: socket.socket) -> int:
    """Return the code of the close frame that ends a connection, whatever comes before it."""
    for opcode, data in read_frames(opened):
        if opcode == 8:
            return int.from_bytes(data[:2])
    raise AssertionError("the connection ended without a close frame")
