"""Send HTTP/1.1 requests with streamed answers, with little CPU time: the measured server shares the cores."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httptools
import orjson

from infrs.errors import InfrsError

_READ_BYTES = 1 << 16


class ServerError(InfrsError):
    """A server could not be reached, refused a request or broke off its answer.

    status, body: of the refusal; 0 and empty if there is none.
    """

    code = "server_error"

    def __init__(self, message: str, *, status: int = 0, body: bytes = b"") -> None:
        super().__init__(message)
        self.status = status
        self.body = body


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of a server. `prefix`: the part of a path before `/chat/completions`."""

    host: str
    port: int
    prefix: str = "/v1"
    tls: bool = False
    api_key: str | None = None

    @classmethod
    def parse(cls, url: str, api_key: str | None = None) -> Endpoint:
        """Parse a URL such as `http://host:port`, with or without `/v1`. Raises ServerError."""
        try:
            parts = urlsplit(url)
            host, port, tls = parts.hostname, parts.port, parts.scheme == "https"
        except ValueError as error:
            raise ServerError(f"{url!r} is no URL ({error}); give one like http://127.0.0.1:3000") from error
        if parts.scheme not in ("http", "https") or not host:
            raise ServerError(f"{url!r} is no URL of a server; give one like http://127.0.0.1:3000")
        prefix = parts.path.rstrip("/")
        return cls(host, port or (443 if tls else 80), prefix or "/v1", tls, api_key)

    @property
    def url(self) -> str:
        """Return the endpoint as a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' * self.tls}://{host}:{self.port}{self.prefix}"


class _Answer:
    """The response, filled by httptools' parser."""

    def __init__(self) -> None:
        self.body: deque[bytes] = deque()
        self.complete = False
        self.ends_with_connection = True  # unless a header gives the length of the body
        self.parser = httptools.HttpResponseParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self.ends_with_connection = False

    def on_body(self, data: bytes) -> None:
        self.body.append(data)

    def on_message_complete(self) -> None:
        self.complete = True

    def feed(self, data: bytes) -> bytes:
        """Return the bytes of the body in `data`."""
        self.parser.feed_data(data)
        body = b"".join(self.body)
        self.body.clear()
        return body


async def events(endpoint: Endpoint, path: str, body: bytes) -> AsyncGenerator[bytes]:
    """Send a JSON body by POST. Yield the data of each server-sent event as it arrives, `[DONE]` included.

    Raises ServerError for any status but 200 and for an answer that ends early.
    """
    buffer = b""
    async with aclosing(_exchange(endpoint, "POST", path, body)) as pieces:
        async for data in pieces:
            # A line feed is never inside an event's data: JSON writes it as an escape.
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                if line.startswith(b"data:"):
                    yield line[5:].strip()


async def get_json(endpoint: Endpoint, path: str) -> dict[str, Any]:
    """Return the JSON object at a path, by GET. Raises ServerError."""
    return await _json(endpoint, "GET", path, b"")


async def post_json(endpoint: Endpoint, path: str, body: bytes) -> dict[str, Any]:
    """Send a JSON body by POST and return the JSON object of the answer. Raises ServerError."""
    return await _json(endpoint, "POST", path, body)


async def _json(endpoint: Endpoint, method: str, path: str, sent: bytes) -> dict[str, Any]:
    body = b"".join([data async for data in _exchange(endpoint, method, path, sent)])
    try:
        return dict(orjson.loads(body))
    except (orjson.JSONDecodeError, TypeError, ValueError) as error:
        raise ServerError(f"{endpoint.url}{path} did not answer with JSON; check the URL") from error


async def _exchange(endpoint: Endpoint, method: str, path: str, body: bytes) -> AsyncGenerator[bytes]:
    try:
        reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port, ssl=endpoint.tls or None)
    except OSError as error:
        raise ServerError(f"{endpoint.url} cannot be reached ({error.strerror or error}); is the server up?") from error
    try:
        writer.write(_head(endpoint, method, path, len(body)) + body)
        answer = _Answer()
        pieces: list[bytes] = []
        while not answer.complete:
            data = await reader.read(_READ_BYTES)
            if not data:
                answer.complete = answer.ends_with_connection and answer.parser.get_status_code() > 0
                break
            piece = answer.feed(data)
            if answer.parser.get_status_code() == 200:
                yield piece
            else:
                pieces.append(piece)
        _check(endpoint, path, answer, b"".join(pieces))
    except (OSError, httptools.HttpParserError) as error:
        raise ServerError(f"{endpoint.url}{path}: the connection broke ({error})") from error
    finally:
        writer.close()


def _check(endpoint: Endpoint, path: str, answer: _Answer, refusal: bytes) -> None:
    status = answer.parser.get_status_code()
    if status != 200 and status:
        text = " ".join(refusal.decode(errors="replace").split())[:300]
        raise ServerError(f"{endpoint.url}{path} answered {status}: {text}", status=status, body=refusal)
    if not answer.complete:
        raise ServerError(f"{endpoint.url}{path}: the answer ended early")


def _head(endpoint: Endpoint, method: str, path: str, length: int) -> bytes:
    lines = [
        f"{method} {endpoint.prefix}{path} HTTP/1.1",
        f"Host: {endpoint.host}:{endpoint.port}",
        "Connection: close",
        f"Content-Length: {length}",
        "Content-Type: application/json",
        "Accept: text/event-stream, application/json",
    ]
    if endpoint.api_key:
        lines.append(f"Authorization: Bearer {endpoint.api_key}")
    return "\r\n".join([*lines, "", ""]).encode()
