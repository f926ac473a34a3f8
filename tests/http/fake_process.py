"""Runs `fake_server.py` and sends it requests."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODEL = "fake/words"
# The delay that a shared machine may add, in seconds: upper bounds detect hangs, not slowness.
SLACK = 3.0
SCRIPT = Path(__file__).parent / "fake_server.py"
JSON = {"content-type": "application/json"}


@dataclass
class Answer:
    """A response, read to its end. `headers` have lower-case names."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, str, str | None, str]:
        """Return (status, type, param, code) of an error in OpenAI's shape."""
        error = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert 0 < len(error["message"]) <= 500
        assert "/secret/path" not in error["message"]
        assert self.headers["x-request-id"]
        return self.status, error["type"], error["param"], error["code"]

    @property
    def events(self) -> list[Any]:
        """Return the events of a stream; `[DONE]` stays a string."""
        assert self.headers["content-type"] == "text/event-stream; charset=utf-8"
        frames = self.body.decode().split("\n\n")
        assert frames.pop() == ""
        assert all(frame.startswith("data: ") for frame in frames)
        return [frame[6:] if frame == "data: [DONE]" else json.loads(frame[6:]) for frame in frames]


@dataclass
class FakeServer:
    """A running fake server."""

    process: subprocess.Popen[str]
    port: int
    log: Path

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(
                method, path, body, dict(JSON if headers is None and body is not None else headers or {})
            )
            response = connection.getresponse()
            return Answer(
                response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
            )
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        return self.request("GET", path)

    def chat(self, content: str = "hi", **fields: object) -> Answer:
        return self.request("POST", "/v1/chat/completions", chat_body(content, **fields))

    def post(self, path: str, **fields: object) -> Answer:
        return self.request("POST", path, json.dumps(fields).encode())

    def complete(self, prompt: object = "hi", **fields: object) -> Answer:
        return self.post("/v1/completions", model=MODEL, prompt=prompt, **fields)

    def raw(self, data: bytes, wait: float = 5.0) -> bytes:
        """Send bytes. Return the answer, read until the connection closes or `wait` seconds have passed."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait) as connection:
            received = b""
            try:
                connection.sendall(data)
                while piece := connection.recv(65536):
                    received += piece
            except (TimeoutError, ConnectionError):
                pass
            return received

    def gauge(self, name: str) -> float:
        return metric(self.get("/metrics").body.decode(), name)

    def wait_until(self, condition: Callable[[], bool], seconds: float = 5.0) -> float:
        """Wait for the condition. Return the seconds until it held."""
        started = time.monotonic()
        while not condition():
            assert time.monotonic() - started < seconds, "the condition never held"
            time.sleep(0.005)
        return time.monotonic() - started

    def wait_idle(self) -> float:
        return self.wait_until(lambda: self.gauge("infrs_requests_running") + self.gauge("infrs_requests_waiting") == 0)

    def output(self) -> str:
        """Return the log of a server that has ended."""
        self.process.wait(10)
        return self.log.read_text()


def chat_body(content: str = "hi", **fields: object) -> bytes:
    body = {"model": MODEL, "messages": [{"role": "user", "content": content}]} | fields
    return json.dumps(body).encode()


def chat_request(content: str = "hi", **fields: object) -> bytes:
    """Return a complete HTTP request for a raw socket."""
    body = chat_body(content, **fields)
    lines = ["POST /v1/chat/completions HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def metric(text: str, name: str) -> float:
    """Return the value of a metric. A name without labels gives the sum over its models."""
    lines = text.splitlines()
    values = [line.rpartition(" ")[2] for line in lines if line.startswith((f"{name} ", f'{name}{{model="'))]
    assert values, f"there is no metric {name}"
    return sum(map(float, values))


@contextmanager
def fake_server(
    *, wait_ready: bool = True, keys: str = "", script: Path = SCRIPT, stderr: int | None = None, **options: object
) -> Iterator[FakeServer]:
    """Run a server. stderr: a file descriptor instead of the log file."""
    with ExitStack() as closing:
        # A pipe without a reader would stop a server that logs more than it holds.
        log = closing.enter_context(tempfile.NamedTemporaryFile("w", prefix="fake-server-", suffix=".log"))
        process = subprocess.Popen(
            [sys.executable, str(script), json.dumps(options)],
            stdout=subprocess.PIPE,
            stderr=log if stderr is None else stderr,
            text=True,
            env=os.environ | {"INFRS_API_KEYS": keys},
        )
        closing.callback(process.wait)
        closing.callback(process.kill)
        assert process.stdout is not None
        closing.enter_context(process.stdout)
        lines = (json.loads(line) for line in process.stdout if line.startswith("{"))  # tokenizers prints warnings
        server = FakeServer(process, next(lines)["port"], Path(log.name))
        if wait_ready:
            assert next(lines) == {"ready": True}
        else:
            server.wait_until(lambda: accepts(server.port))
        yield server


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
