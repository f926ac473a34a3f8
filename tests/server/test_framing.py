"""Bytes that are no proper HTTP: each gets an answer in OpenAI's shape, and none a traceback."""

import json
import re

import pytest
from fake_process import FakeServer, chat_body, chat_request, fake_server

POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"


def statuses(received: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


def code(received: bytes) -> str:
    return str(json.loads(received.rpartition(b"\r\n\r\n")[2])["error"]["code"])


@pytest.mark.parametrize(
    ("data", "status", "expected"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "bad_request"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "bad_request"),
        (b"GET /health HTTP/9.9\r\n\r\n", 400, "bad_request"),
        (b"GET  /health HTTP/1.1\r\n\r\n", 400, "bad_request"),
        (b"GET /health HTTP/1.1\r\nno colon\r\n\r\n", 400, "bad_request"),
        (b"GET /health HTTP/1.1\r\nx: y\r\n folded\r\n\r\n", 400, "bad_request"),
        (b"GET /health HTTP/1.1\r\nx(y): z\r\n\r\n", 400, "bad_request"),
        (b"GET /health HTTP/1.1\r\n: z\r\n\r\n", 400, "bad_request"),
        (POST + b"Content-Length : 2\r\n\r\n{}", 400, "bad_request"),
        (POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", 400, "bad_request"),
        (POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", 400, "bad_request"),
        (POST + b"Content-Length: -2\r\n\r\n{}", 400, "bad_request"),
        (POST + b"Content-Length: +2\r\n\r\n{}", 400, "bad_request"),
        (POST + b"Content-Length: abc\r\n\r\n{}", 400, "bad_request"),
        (POST + "Content-Length: \u0662\r\n\r\n{}".encode(), 400, "bad_request"),
        (POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n{}", 400, "bad_request"),
        (POST + b"Content-Length: 4194305\r\n\r\n", 413, "request_too_large"),
        (POST + b"Content-Length: 4194305\r\nExpect: 100-continue\r\n\r\n", 413, "request_too_large"),
        (POST + b"Transfer-Encoding: gzip\r\n\r\n", 400, "bad_request"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", 400, "bad_request"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n500000\r\n" + b"x" * 100, 413, "request_too_large"),
        (POST + b"Content-Length: 2\r\nExpect: foo\r\n\r\n{}", 417, "expectation_failed"),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 70_000 + b"\r\n\r\n", 431, "headers_too_large"),
        ("GET /ü HTTP/1.1\r\n\r\n".encode(), 400, "bad_request"),
        (b"GET /\x1b[31m HTTP/1.1\r\n\r\n", 400, "bad_request"),
        (b"CONNECT h:80 HTTP/1.1\r\n\r\n", 400, "bad_request"),
    ],
    ids=lambda value: ascii(value)[:60],
)
def test_malformed(server: FakeServer, data: bytes, status: int, expected: str) -> None:
    received = server.raw(data)
    assert statuses(received) == [status]
    assert code(received) == expected
    assert b"100 Continue" not in received
    assert b"x-request-id: " in received
    assert server.get("/health").status == 200


def test_what_is_unusual_but_right(server: FakeServer) -> None:
    assert statuses(server.raw(b"GET /health HTTP/1.0\r\n\r\n")) == [200]
    chunked = b"".join(b"%x\r\n%b\r\n" % (1, bytes([byte])) for byte in chat_body(max_tokens=1))
    head = POST + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    assert statuses(server.raw(head + chunked + b"0\r\n\r\n")) == [200]
    continued = POST + b"Connection: close\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}"
    assert statuses(server.raw(continued)) == [100, 400]
    upgrade = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\nUpgrade: h2c\r\n\r\n"
    assert statuses(server.raw(upgrade)) == [200]


def test_pipelined_requests_are_answered_in_order(server: FakeServer) -> None:
    data = chat_request(max_tokens=2) + b"GET /nope HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert statuses(server.raw(data)) == [200, 404]


def test_no_control_byte_and_no_traceback_reaches_the_log() -> None:
    with fake_server() as server:
        server.raw(b"GET /\x1b[31m\x07 HTTP/1.1\r\nx-request-id: \x1b[31m\r\n\r\n")
        server.raw(b"GET /%1b%0a%e2%80%ae HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        server.raw(b"F\x1bO /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        server.raw(b"\x00" * 1000 + b"\r\n\r\n")
        server.chat("canary-in-the-prompt \x1b[31m", user="canary-user", max_tokens=1)
        server.request("GET", "/health?canary-query")
        server.process.terminate()
        log = server.output()
    assert "Traceback" not in log
    assert "canary" not in log
    assert not re.search(r"[^\x20-\x7e\n]", log)
