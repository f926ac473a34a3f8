"""Bytes that are no proper HTTP: each gets an answer in OpenAI's shape, and none a traceback.

The deadlines of this file's server are short; what they are for a server out of the box is `ServerSettings`' business.
"""

import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator

import pytest
from fake_process import SLACK, FakeServer, chat_body, chat_request, fake_server

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
CONTROLLED = HEAD + b"Transfer-Encoding:%bchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
JSON_TYPE = b"Content-Type: application/json\r\n"
KEY = "a-key-of-this-server"
SHORT = 1.0  # seconds of either deadline
PATIENCE = 5.0


@pytest.fixture(scope="module")
def hasty() -> Iterator[FakeServer]:
    """A server with short deadlines."""
    with fake_server(server={"header_timeout": SHORT, "body_timeout": SHORT}) as running:
        yield running


@pytest.fixture(scope="module")
def guarded() -> Iterator[FakeServer]:
    """Start a server that requires a key."""
    with fake_server(keys=KEY) as running:
        yield running


def statuses(received: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


def code(received: bytes) -> str:
    return str(json.loads(received.rpartition(b"\r\n\r\n")[2])["error"]["code"])


def get(path: bytes = b"/health", *headers: bytes, method: bytes = b"GET", host: bytes = b"localhost") -> bytes:
    return b"\r\n".join([method + b" " + path + b" HTTP/1.1", b"Host: " + host, *headers, b"", b""])


def client_hello() -> bytes:
    outgoing = ssl.MemoryBIO()
    context = ssl.create_default_context()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


NOISE = bytes((i * 167 + 13) % 256 for i in range(1024)).replace(b"\n", b"")

# Requests that are refused for their bytes alone.
REFUSED = {
    "1 noise": (NOISE + b"\r\n\r\n", 400, "bad_request"),
    "2 a TLS hello": (client_hello() + b"\r\n\r\n", 400, "bad_request"),
    "3 the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "bad_request"),
    "4 HTTP/9.9": (b"GET /health HTTP/9.9\r\nHost: localhost\r\n\r\n", 400, "bad_request"),
    "7 two blanks": (b"GET  /health HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "bad_request"),
    "8 no colon": (get(b"/health", b"no colon"), 400, "bad_request"),
    "9 a folded header": (get(b"/health", b"x: y", b" folded"), 400, "bad_request"),
    "10 a blank before the colon": (HEAD + b"Content-Length : 2\r\n\r\n{}", 400, "bad_request"),
    "11 NUL in a value": (get(b"/health", b"x: a\x00b"), 400, "bad_request"),
    "11 a lone LF in a value": (get(b"/health", b"x: a\ny: b"), 400, "bad_request"),
    "11 a lone CR in a value": (get(b"/health", b"x: a\ry: b"), 400, "bad_request"),
    "11 a vertical tab before a value": (CONTROLLED % b"\x0b", 400, "bad_request"),
    "11 a form feed before a value": (CONTROLLED % b"\x0c", 400, "bad_request"),
    "11 a separator before a value": (CONTROLLED % b" \x1c", 400, "bad_request"),
    "11 a no-break space before a value": (CONTROLLED % "\xa0".encode(), 400, "bad_request"),
    "11 a next line before a value": (CONTROLLED % "\x85".encode(), 400, "bad_request"),
    "11 a control byte behind a value": (get(b"/health", b"x: y\x1f"), 400, "bad_request"),
    "12 a bracket in a name": (get(b"/health", b"x(y): z"), 400, "bad_request"),
    "12 a letter that is K in small": (get(b"/health", "\u212aey: z".encode()), 400, "bad_request"),
    "12 no name": (get(b"/health", b": z"), 400, "bad_request"),
    "13 no host": (b"GET /health HTTP/1.1\r\n\r\n", 400, "bad_request"),
    "14 two hosts": (get(b"/health", b"Host: localhost"), 400, "bad_request"),
    "15 a host that is not ours": (get(host=b"evil.example"), 403, "host_not_allowed"),
    "15 one that begins as ours": (get(host=b"localhost.evil.example:80"), 403, "host_not_allowed"),
    "16 a slash in the host": (get(host=b"localhost/x"), 400, "bad_request"),
    "16 a question mark in the host": (get(host=b"localhost?x"), 400, "bad_request"),
    "16 a name in the host": (get(host=b"me@localhost"), 400, "bad_request"),
    "18 a head of 9 KB": (get(b"/health", b"x: " + b"y" * 9000), 431, "headers_too_large"),
    "19 a head of 64 KB": (get(b"/health", b"x: " + b"y" * 65_000), 431, "headers_too_large"),
    "20 a thousand headers": (get(b"/health", *[b"x%d: y" % i for i in range(1000)]), 431, "headers_too_large"),
    "21 a URL of 10 KB": (get(b"/" + b"x" * 10_000), 431, "headers_too_large"),
    "22 a URL that is not ASCII": (get("/ü".encode()), 400, "bad_request"),
    "23 ESC in the URL": (get(b"/\x1b[31m"), 400, "bad_request"),
    "23 LF in the URL": (get(b"/a\nb"), 400, "bad_request"),
    "24 an escaped NUL": (get(b"/%00", b"Connection: close"), 404, "not_found"),
    "25 a way up": (get(b"/../../etc/passwd", b"Connection: close"), 404, "not_found"),
    "26 two slashes": (get(b"//v1/models", b"Connection: close"), 404, "not_found"),
    "26 capitals": (get(b"/V1/models", b"Connection: close"), 404, "not_found"),
    "27 CONNECT": (b"CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n", 400, "bad_request"),
    "28 TRACE": (get(b"/health", b"Connection: close", method=b"TRACE"), 405, "method_not_allowed"),
    "29 OPTIONS *": (get(b"*", b"Connection: close", method=b"OPTIONS"), 404, "not_found"),
    "30 an unknown method": (get(b"/health", b"Connection: close", method=b"FOO"), 405, "method_not_allowed"),
    "31 a method in small letters": (get(b"/health", b"Connection: close", method=b"get"), 405, "method_not_allowed"),
    "31 a bracket in the method": (get(b"/health", method=b"G(T"), 400, "bad_request"),
    "31 a method that is not ASCII": (get(b"/health", method="GÉT".encode()), 400, "bad_request"),
    "31 no method": (get(b"/health", method=b""), 400, "bad_request"),
    "32 a length and chunks": (HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", 400, "bad_request"),
    "33 two lengths": (HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", 400, "bad_request"),
    "34 a negative length": (HEAD + b"Content-Length: -2\r\n\r\n{}", 400, "bad_request"),
    "34 a signed length": (HEAD + b"Content-Length: +2\r\n\r\n{}", 400, "bad_request"),
    "34 a length in words": (HEAD + b"Content-Length: abc\r\n\r\n{}", 400, "bad_request"),
    "35 a length in Arabic": (HEAD + "Content-Length: \u0662\r\n\r\n{}".encode(), 400, "bad_request"),
    "36 a length of 5,000 digits": (HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n{}", 400, "bad_request"),
    "37 a length above the limit": (HEAD + b"Content-Length: 4194305\r\n\r\n", 413, "request_too_large"),
    "37 the same, expecting": (
        HEAD + b"Content-Length: 4194305\r\nExpect: 100-continue\r\n\r\n",
        413,
        "request_too_large",
    ),
    "38 another coding": (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 400, "bad_request"),
    "38 two codings": (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 400, "bad_request"),
    "39 capital Chunked": (HEAD + b"Transfer-Encoding: Chunked\r\n\r\n", 400, "bad_request"),
    "39 chunks in HTTP/1.0": (CHUNKED.replace(b"/1.1", b"/1.0") + b"2\r\n{}\r\n0\r\n\r\n", 400, "bad_request"),
    "40 no chunk size": (CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n", 400, "bad_request"),
    "40 an empty chunk size": (CHUNKED + b"\r\n{}\r\n0\r\n\r\n", 400, "bad_request"),
    "40 0x2": (CHUNKED + b"0x2\r\n{}\r\n0\r\n\r\n", 400, "bad_request"),
    "40 +2": (CHUNKED + b"+2\r\n{}\r\n0\r\n\r\n", 400, "bad_request"),
    "40 1_0": (CHUNKED + b"1_0\r\n{}\r\n0\r\n\r\n", 400, "bad_request"),
    "40 a blank and 2": (CHUNKED + b" 2\r\n{}\r\n0\r\n\r\n", 400, "bad_request"),
    "40 a negative chunk": (CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n", 400, "bad_request"),
    "40 no line end after a chunk": (CHUNKED + b"2\r\n{}XX0\r\n\r\n", 400, "bad_request"),
    "41 a chunk above the limit": (CHUNKED + b"500000\r\n" + b"x" * 100, 413, "request_too_large"),
    "41 a size of 17 digits": (CHUNKED + b"f" * 17 + b"\r\n", 400, "bad_request"),
    "41 chunks that add up to too much": (
        CHUNKED + b"3fffff\r\n" + b" " * 0x3FFFFF + b"\r\n2\r\n",
        413,
        "request_too_large",
    ),
    "42 an extension of 10 KB": (CHUNKED + b"2;" + b"x" * 10_000 + b"\r\n{}\r\n0\r\n\r\n", 400, "bad_request"),
    "43 a trailer": (CHUNKED + b"2\r\n{}\r\n0\r\nx: y\r\n\r\n", 400, "bad_request"),
    "49 another expectation": (HEAD + b"Content-Length: 2\r\nExpect: foo\r\n\r\n{}", 417, "expectation_failed"),
    "50 gzip": (HEAD + b"Content-Length: 2\r\nContent-Encoding: gzip\r\n\r\n{}", 415, "unsupported_media_type"),
    "50 br": (HEAD + b"Content-Length: 2\r\nContent-Encoding: br\r\n\r\n{}", 415, "unsupported_media_type"),
    "50 two types": (HEAD + b"Content-Length: 2\r\n" + JSON_TYPE * 2 + b"\r\n{}", 400, "bad_request"),
    "50 two encodings": (
        HEAD + b"Content-Length: 2\r\n" + b"Content-Encoding: identity\r\n" * 2 + b"\r\n{}",
        400,
        "bad_request",
    ),
    "51 a bomb": (HEAD + b"Content-Length: 999\r\nContent-Encoding: gzip\r\n\r\n", 415, "unsupported_media_type"),
}


@pytest.mark.parametrize("row", REFUSED)
def test_a_malformed_request_is_refused(server: FakeServer, row: str) -> None:
    data, status, expected = REFUSED[row]
    started = time.monotonic()
    received = server.raw(data)
    assert statuses(received) == [status]
    assert code(received) == expected
    assert b"\r\nx-request-id: " in received
    assert b"\r\ncontent-type: application/json\r\n" in received
    assert b"\r\nconnection: close\r\n" in received
    assert time.monotonic() - started < PATIENCE - 1  # the server closed; `raw` did not give up
    assert server.get("/health").status == 200


LATE = {
    "6 bare LF": b"GET /health HTTP/1.1\nHost: localhost\n\n",
    "45 a body that does not end": HEAD + b"Content-Length: 100\r\n\r\n{",
    "45 a chunk that does not end": CHUNKED + b"a\r\n{",
    "45 a chunk line that does not end": CHUNKED + b"a",
    "45 chunks that do not end": CHUNKED + b"1\r\n{\r\n",
    "47 a head that does not end": b"GET /health HTTP/1.1\r\nHost: local",
}


@pytest.mark.parametrize("row", LATE)
def test_a_request_that_is_late_gets_408(hasty: FakeServer, row: str) -> None:
    started = time.monotonic()
    received = hasty.raw(LATE[row])
    seconds = time.monotonic() - started
    assert statuses(received) == [408]
    assert code(received) == "request_timeout"
    assert SHORT - 0.1 < seconds < SHORT + 3 + SLACK  # the deadline, and what the server lingers on


@pytest.mark.parametrize("start", [b"GET /health HTTP/1.1\r\nx: ", HEAD + b"Content-Length: 999\r\n\r\n"], ids=str)
def test_single_bytes_do_not_extend_the_deadline(hasty: FakeServer, start: bytes) -> None:
    """Rows 46 and 47: a byte every tenth of the deadline."""
    with socket.create_connection(("127.0.0.1", hasty.port), timeout=PATIENCE) as connection:
        started = time.monotonic()
        connection.sendall(start)
        connection.settimeout(SHORT / 10)
        received = b""
        while not received and time.monotonic() - started < 4 * SHORT:
            connection.sendall(b"x")
            try:
                received = connection.recv(4096)
            except TimeoutError:
                continue
        assert statuses(received) == [408]
        assert time.monotonic() - started < 2 * SHORT + SLACK / 2


def test_an_unknown_path_is_refused_before_its_body_ends(hasty: FakeServer) -> None:
    received = hasty.raw(b"POST /nope HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
    assert statuses(received) == [404]


def test_each_request_of_a_connection_has_its_own_deadline(hasty: FakeServer) -> None:
    with socket.create_connection(("127.0.0.1", hasty.port), timeout=PATIENCE) as connection:
        for _ in range(3):
            time.sleep(SHORT * 0.6)
            connection.sendall(get())
            assert statuses(connection.recv(4096)) == [200]


def test_unusual_but_valid_requests_are_answered(server: FakeServer) -> None:
    """Rows 5, 17, 44, 52 and 48 with a body."""
    close = b"Connection: close"
    assert statuses(server.raw(b"GET /health HTTP/1.0\r\n\r\n")) == [200]
    assert statuses(server.raw(get(b"http://localhost/health", close))) == [200]
    assert statuses(server.raw(get(b"/health", close, b"Upgrade: h2c"))) == [200]
    assert statuses(server.raw(get(b"/health", close, b"Upgrade: websocket"))) == [200]
    for host in (b"LOCALHOST:3000", b"127.0.0.1:1", b"[::1]:3000", b"10.1.2.3", b"localhost:"):
        assert statuses(server.raw(get(b"/health", close, host=host))) == [200]
    head = HEAD + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    chunks = b"".join(b"%X;a=b\r\n%b\r\n" % (1, bytes([byte])) for byte in chat_body(max_tokens=1))
    assert statuses(server.raw(head + chunks + b"000\r\n\r\n")) == [200]
    continued = HEAD + b"Connection: close\r\nExpect: 100-continue\r\n"
    assert statuses(server.raw(continued + b"Content-Length: 2\r\n\r\n{}")) == [100, 400]
    assert statuses(server.raw(continued + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")) == [100, 400]


SPACED = {"space": b" ", "tab": b"\t", "both": b"\t  "}


@pytest.mark.parametrize("space", SPACED.values(), ids=SPACED)
def test_white_space_around_a_value_is_no_part_of_it(server: FakeServer, space: bytes) -> None:
    """RFC 9112, section 5: optional space and tab."""
    body = chat_body(max_tokens=1)
    typed = HEAD + b"Connection:%bclose%b\r\nContent-Type:%bapplication/json%b\r\n" % ((space,) * 4)
    with_length = typed + b"Content-Length:%b%d%b\r\n\r\n%b" % (space, len(body), space, body)
    chunked = typed + b"Transfer-Encoding:%bchunked%b\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (space, space, len(body), body)
    for data in (with_length, chunked):
        assert statuses(server.raw(data)) == [200]


@pytest.mark.parametrize("expectation", [b"100-continue", b"anything"])
def test_an_expectation_in_http_1_0_is_ignored(server: FakeServer, expectation: bytes) -> None:
    """RFC 9110, section 10.1.1: such a client does not know an interim answer."""
    head = HEAD.replace(b"/1.1", b"/1.0") + b"Content-Length: 2\r\nExpect: " + expectation + b"\r\n\r\n"
    assert statuses(server.raw(head + b"{}")) == [400]


SMALL_CHUNKS = HEAD + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"


def in_chunks(body: bytes, size: int) -> bytes:
    pieces = (body[start : start + size] for start in range(0, len(body), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


@pytest.mark.parametrize(("size", "count"), [(1, 1024), (64, 2000)])
def test_a_body_of_many_small_chunks_is_accepted(server: FakeServer, size: int, count: int) -> None:
    """Row 44: of any size until there are 1,024, then of 64 bytes on average. An empty one ends the body."""
    body = chat_body(max_tokens=1)
    body += b" " * (count * size - len(body))
    assert statuses(server.raw(SMALL_CHUNKS + in_chunks(body, size) + b"0\r\n\r\n")) == [200]


def test_a_body_with_too_many_small_chunks_is_refused(server: FakeServer) -> None:
    """Row 44: one too many, and one byte too little; the error says what is wrong."""
    few = in_chunks(chat_body(max_tokens=1).ljust(1025), 1)
    many = in_chunks(b" " * 64 * 1999, 64) + in_chunks(b" " * 63, 63)
    for chunks in (few, many):
        received = server.raw(SMALL_CHUNKS + chunks + b"1\r\n \r\n0\r\n\r\n")
        assert statuses(received) == [413]
        assert code(received) == "request_too_large"
        assert b"smaller pieces" in received


def test_a_body_of_many_small_chunks_does_not_delay_other_requests(server: FakeServer) -> None:
    """Row 44: as many chunks as `server.max_body_bytes` (4 MiB) allows, which end in nothing."""
    chunks = CHUNKED + in_chunks(b"[" * (4 << 20), 64)
    connections = [socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) for _ in range(4)]
    threads = [threading.Thread(target=connection.sendall, args=(chunks,), daemon=True) for connection in connections]
    for thread in threads:
        thread.start()
    seconds = []
    for _ in range(20):
        started = time.monotonic()
        assert server.get("/health").status == 200
        seconds.append(time.monotonic() - started)
    assert max(seconds) < 2
    for connection, thread in zip(connections, threads, strict=True):
        thread.join(PATIENCE)
        connection.close()


def test_a_request_without_a_key_gets_no_continue(guarded: FakeServer) -> None:
    """Row 48, and row 26 behind a key: a client without one learns of no path."""
    received = guarded.raw(HEAD + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert statuses(received) == [401]
    for path in (b"//v1/models", b"/V1/models", b"/v1/models/../models", b"http://localhost/v1/models", b"*"):
        assert statuses(guarded.raw(get(path))) == [401]


def test_pipelined_requests_are_answered_in_order(server: FakeServer) -> None:
    """Row 53."""
    data = chat_request(max_tokens=2) + get(b"/nope", b"Connection: close")
    assert statuses(server.raw(data)) == [200, 404]


def test_the_log_has_no_control_bytes_and_no_tracebacks() -> None:
    with fake_server() as server:
        server.raw(b"GET /\x1b[31m\x07 HTTP/1.1\r\nHost: localhost\r\nx-request-id: \x1b[31m\r\n\r\n")
        server.raw(get(b"/%1b%0a%e2%80%ae", b"Connection: close"))
        server.raw(get(b"/health", b"Connection: close", method=b"F\x1bO"))
        server.raw(b"\x00" * 1000 + b"\r\n\r\n")
        for data, _, _ in REFUSED.values():
            server.raw(data)
        server.chat("canary-in-the-prompt \x1b[31m", user="canary-user", max_tokens=1)
        server.request("GET", "/health?canary-query")
        server.process.terminate()
        log = server.output()
    assert "Traceback" not in log
    assert "canary" not in log
    assert not re.search(r"[^\x20-\x7e\n]", log)
