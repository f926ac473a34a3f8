"""Damaged HTTP: each connection is answered or closed soon, with no 5xx, and the server lives on."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from fake_process import SLACK, FakeServer, chat_request, fake_server
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import damaged_bytes

DEADLINE = 0.5  # seconds, of heads and of bodies
TOGETHER = 40  # connections
TAKEN: list[float] = []  # seconds of each exchange
ANSWERED = re.compile(rb"^HTTP/1\.1 [2-5]", re.MULTILINE)
SEEDS = [
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    b"GET /v1/models/fake/words HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: abc\r\n\r\n",
    b"HEAD /metrics?a=b&c=%41#d HTTP/1.1\r\nHost: [::1]:3000\r\nAccept: */*\r\nUpgrade: h2c\r\n\r\n",
    chat_request(max_tokens=2),
    chat_request(max_tokens=2, stream=True) + b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
    b'Transfer-Encoding: chunked\r\n\r\n9\r\n{"text": \r\n5;x=y\r\n"hi"}\r\n0\r\n\r\n',
    b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\nAccess-Control-Request-Method: POST\r\n\r\n",
]


@pytest.fixture(scope="module")
def hasty() -> Iterator[FakeServer]:
    settings = {"header_timeout": DEADLINE, "body_timeout": DEADLINE, "access_log": False, "log_level": "error"}
    with fake_server(rows=4, max_queue=60, interval=0.0, server=settings) as running:
        yield running
        assert running.chat(max_tokens=1).status == 200
        running.process.terminate()
        assert "Traceback" not in running.output()


@pytest.fixture(autouse=True)
def report(figure: Callable[[str], None]) -> Iterator[None]:
    yield
    figure(f"{len(TAKEN):,} requests: answered or closed in {max(TAKEN, default=0):.2f} s at most, no 5xx")


# A connection that never says a word is idle, as between two requests, and may be so for KEEP_ALIVE_TIMEOUT.
@pytest.mark.nightly("fuzz: HTTP")
@given(requests=st.lists(damaged_bytes(SEEDS).filter(bool), min_size=TOGETHER, max_size=TOGETHER))
@settings(
    max_examples=settings.default.max_examples // TOGETHER,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_any_bytes_are_answered_or_cut(hasty: FakeServer, requests: list[bytes]) -> None:
    with ThreadPoolExecutor(TOGETHER) as pool:
        for data, received in zip(requests, pool.map(partial(exchange, hasty), requests), strict=True):
            assert not re.search(rb"^HTTP/1\.1 5", received, re.MULTILINE), data
            assert not received or received.startswith(b"HTTP/1.1 "), data
    assert hasty.process.poll() is None


def exchange(server: FakeServer, data: bytes) -> bytes:
    """What a request is answered, until the connection is closed or, after an answer, silent."""
    started, received = time.monotonic(), b""
    with socket.create_connection(("127.0.0.1", server.port)) as connection, contextlib.suppress(ConnectionError):
        connection.settimeout(DEADLINE / 5)
        connection.sendall(data)
        while True:
            try:
                if not (piece := connection.recv(65536)):
                    break
                received += piece
            except TimeoutError:
                if ANSWERED.search(received):
                    break
                assert time.monotonic() - started < DEADLINE + 2 + SLACK, data
    TAKEN.append(time.monotonic() - started)
    return received
