"""A server of canned answers over asyncio streams: what a client meets, without an engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from infrs.bench.client import Target
from infrs.bench.transport import Endpoint

Body = dict[str, Any]
Step = float | bytes  # a pause, or bytes to send as one chunk
Script = Callable[[Body], list[Step]]


def event(value: object) -> bytes:
    data = value if isinstance(value, str) else json.dumps(value)
    return f"data: {data}\n\n".encode()


def piece(text: str) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": text}}]})


def usage(num_input: int, num_output: int) -> bytes:
    counts = {"prompt_tokens": num_input, "completion_tokens": num_output}
    return event({"choices": [], "usage": counts})


def answer(*pieces: str, pause: float = 0.0, num_input: int = 7, num_output: int | None = None) -> list[Step]:
    """A whole good stream, a pause before each piece."""
    steps: list[Step] = [event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})]
    for text in pieces:
        steps += [pause, piece(text)]
    return [*steps, usage(num_input, len(pieces) if num_output is None else num_output), event("[DONE]")]


@dataclass
class FakeServer:
    script: Script
    status: str = "200 OK"
    broken: bool = False  # leave without the chunk that ends a body
    unframed: bool = False  # the body ends with the connection
    port: int = 0
    bodies: list[Body] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    open_now: int = 0
    open_most: int = 0

    def target(self, name: str = "fake", **fields: Any) -> Target:
        return Target(name, self.endpoint(), "the-model", fields)

    def endpoint(self, **fields: Any) -> Endpoint:
        return Endpoint("127.0.0.1", self.port, **fields)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open_now += 1
        self.open_most = max(self.open_most, self.open_now)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
            content = await reader.readexactly(length)
            if head.startswith("GET "):
                listed = json.dumps({"object": "list", "data": [{"id": "first/model"}, {"id": "second"}]}).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(listed), listed))
                return
            body = json.loads(content)
            self.bodies.append(body)
            framing = "" if self.unframed else "Transfer-Encoding: chunked\r\n"
            writer.write(f"HTTP/1.1 {self.status}\r\n{framing}\r\n".encode())
            for step in self.script(body):
                if isinstance(step, bytes):
                    writer.write(step if self.unframed else b"%x\r\n%s\r\n" % (len(step), step))
                    await writer.drain()
                else:
                    await asyncio.sleep(step)
            if not self.broken and not self.unframed:
                writer.write(b"0\r\n\r\n")
        finally:
            self.open_now -= 1
            writer.close()


@asynccontextmanager
async def serving(script: Script, **fields: Any) -> AsyncIterator[FakeServer]:
    fake = FakeServer(script, **fields)
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    fake.port = server.sockets[0].getsockname()[1]
    async with server:
        yield fake
