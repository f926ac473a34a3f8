"""Connections: how many may be open, how long one may be silent, and how each ends."""

import socket
import ssl
import threading
import time
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from fake_process import SLACK, FakeServer, chat_request, fake_server
from sanic import Sanic
from test_framing import HEAD, KEY, PATIENCE, SHORT, client_hello, code, get, hasty, statuses

from infrs.http.connection.limits import Connections, address_of

__all__ = ["hasty"]  # a fixture


@pytest.mark.parametrize("stream", [False, True])
def test_junk_after_a_running_request_ends_it(stream: bool) -> None:
    """A client that pipelines 70 KB and leaves: the server could not detect that it left."""
    with fake_server(rows=1, max_model_len=1 << 21, interval=0.005) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
            connection.sendall(chat_request(stream=stream))
            server.wait_until(lambda: server.gauge("infrs_requests_running") == 1)
            connection.sendall(b"x" * 70_000)
            assert server.wait_idle() < 1 + SLACK
        assert server.chat(max_tokens=1).status == 200
        server.process.terminate()
        assert "Traceback" not in server.output()


def test_a_silent_connection_is_closed_after_the_keep_alive(blank_app: Sanic[Any, Any]) -> None:
    """Row 55: one that says nothing is closed, at first and after an answer, when the keep-alive is over."""
    assert blank_app.config.KEEP_ALIVE_TIMEOUT == 75
    with fake_server(keep_alive=1.0) as server:
        for said in (b"", b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"):
            started = time.monotonic()
            assert (b" 200 OK" in server.raw(said, wait=20)) == bool(said)
            assert 0.9 < time.monotonic() - started < 2 + SLACK


@pytest.mark.parametrize("first", [b"", b"GET /health HTTP/1.1\r\nx: "], ids=["silent", "slow"])
def test_the_deadline_of_the_first_head_counts_from_the_connection(hasty: FakeServer, first: bytes) -> None:
    with connect(hasty) as connection:
        started = time.monotonic()
        time.sleep(SHORT * 0.6)
        connection.sendall(first)
        received = connection.recv(4096)
        assert SHORT * 0.9 < time.monotonic() - started < SHORT * 1.5 + SLACK
    assert statuses(received) == ([408] if first else [])


STREAM = chat_request(stream=True, max_tokens=100_000)
SLOW = {"max_model_len": 1 << 21, "interval": 0.02, "rows": 8}
OTHER = "127.0.0.2"


def connect(server: FakeServer, data: bytes = b"", address: str = "127.0.0.1") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), PATIENCE, source_address=(address, 0))
    connection.sendall(data)
    return connection


def reply(server: FakeServer, data: bytes, address: str = "127.0.0.1") -> bytes:
    with connect(server, data, address) as connection:
        return connection.recv(65536)


def run_streams(stack: ExitStack, server: FakeServer, count: int, *headers: bytes) -> None:
    """Open streams, and wait until all run."""
    asked = b"\r\n".join([STREAM.partition(b"\r\n\r\n")[0], *headers, b"", STREAM.partition(b"\r\n\r\n")[2]])
    for _ in range(count):
        connection = stack.enter_context(connect(server, asked))
        assert statuses(connection.recv(4096)) == [200]


WAITING = {"silent": b"", "a part of a head": b"GET /health HTTP/1.1\r\nx: ", "answered": get()}


@pytest.mark.parametrize("kind", WAITING)
def test_connections_without_a_request_make_room(kind: str) -> None:
    with fake_server(server={"max_connections": 16}) as server, ExitStack() as stack:
        for _ in range(40):
            waiting = stack.enter_context(connect(server, WAITING[kind]))
            assert kind != "answered" or statuses(waiting.recv(4096)) == [200]
        for data in (get(), chat_request(max_tokens=1)):
            assert statuses(reply(server, data)) == [200]
        assert statuses(reply(server, get(), OTHER)) == [200]
        assert server.gauge("infrs_connections_refused_total") >= 40 - 16
        server.process.terminate()
        assert "Traceback" not in server.output()


def test_a_running_request_is_not_closed_to_make_room() -> None:
    with fake_server(server={"max_connections": 4}, **SLOW) as server, ExitStack() as stack:
        run_streams(stack, server, 2)
        for _ in range(20):
            stack.enter_context(connect(server))
        assert statuses(reply(server, get())) == [200]
        assert server.gauge("infrs_requests_running") == 2


def test_the_reserve_serves_health_checks_only_on_a_server_without_keys() -> None:
    limits = {"max_connections": 2, "max_connections_per_address": 2}
    with fake_server(server=limits, **SLOW) as server, ExitStack() as stack:
        run_streams(stack, server, 2)
        for path in (b"/health", b"/ready"):
            answer = reply(server, get(path))
            assert statuses(answer) == [200]
            assert b"connection: close" in answer
        for address in ("127.0.0.1", OTHER):
            answer = reply(server, chat_request(max_tokens=1), address)
            assert statuses(answer) == [503]
            assert code(answer) == "too_many_connections"
            assert b"\r\nretry-after: 1\r\n" in answer


def test_the_reserve_serves_requests_with_a_key() -> None:
    limits = {"max_connections": 2, "max_connections_per_address": 2}
    key = b"Authorization: Bearer " + KEY.encode()
    with fake_server(server=limits, keys=KEY, **SLOW) as server, ExitStack() as stack:
        run_streams(stack, server, 2, key)
        for _ in range(10):
            stack.enter_context(connect(server))  # these take the reserve from each other
        assert statuses(reply(server, get(b"/v1/models", key))) == [200]
        assert statuses(reply(server, get(b"/v1/models"))) == [401]
        assert statuses(reply(server, get())) == [200]


def test_one_address_leaves_connections_to_the_others() -> None:
    limits = {"max_connections": 8, "max_connections_per_address": 2}
    with fake_server(server=limits, **SLOW) as server, ExitStack() as stack:
        run_streams(stack, server, 2)
        assert statuses(reply(server, chat_request(max_tokens=1))) == [503]
        for _ in range(3):
            assert statuses(reply(server, chat_request(max_tokens=1), OTHER)) == [200]


def test_a_connection_beyond_the_reserve_is_refused() -> None:
    limits = {"max_connections": 1, "max_connections_per_address": 1}
    with fake_server(server=limits, keys=KEY, **SLOW) as server:
        with ExitStack() as stack:
            run_streams(stack, server, 1, b"Authorization: Bearer " + KEY.encode())
            run_streams(stack, server, 1, b"Authorization: Bearer " + KEY.encode())  # in the reserve
            refused = [stack.enter_context(connect(server)) for _ in range(100)]
            for connection in refused:
                answer = connection.recv(4096)
                assert statuses(answer) == [503]
                assert code(answer) == "too_many_connections"
        server.process.terminate()
        assert "Traceback" not in server.output()


class Fake:
    """A connection that is open until it is dropped."""

    def __init__(self, address: str = "a") -> None:
        self.address, self.reserved, self.dropped = address, False, False

    def drop(self) -> None:
        self.dropped = True


def test_the_connection_that_waited_longest_makes_room() -> None:
    """Connections that never had a request lose their place before those that had one."""
    connections = Connections(limit=3, limit_per_address=3)
    served, first, second, third = (Fake() for _ in range(4))
    for each in (served, first, second):
        assert connections.admit(each)
    connections.begin(served)
    connections.wait(served)
    assert connections.admit(third)
    assert [each.dropped for each in (served, first, second, third)] == [False, True, False, False]
    for expected in (second, third, served):
        assert connections.admit(Fake())
        assert expected.dropped or expected is served
    connections.remove(first)  # again, as its transport reports the end


def test_a_full_address_closes_only_its_own_connections() -> None:
    connections = Connections(limit=10, limit_per_address=2)
    others = [Fake("b"), Fake("b")]
    own = [Fake("a") for _ in range(5)]
    assert all(connections.admit(each) for each in (*others, *own))
    assert [each.dropped for each in own] == [True] * 3 + [False] * 2
    assert not any(each.dropped for each in others)
    for each in own[3:]:
        connections.begin(each)
    reserved = [Fake("a"), Fake("a")]
    assert all(connections.admit(each) for each in reserved)
    assert all(each.reserved for each in reserved)
    assert reserved[0].dropped  # the reserve has one place
    connections.begin(reserved[1])
    assert not connections.admit(Fake("a"))
    assert connections.admit(Fake("c"))
    connections.remove(own[3])
    assert connections.admit(again := Fake("a"))
    assert not again.reserved


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        (("10.1.2.3", 5), "10.1.2.3"),
        (("::ffff:10.1.2.3", 5, 0, 0), "10.1.2.3"),
        (("2001:db8:1:2:3:4:5:6", 5, 0, 0), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 5, 0, 3), "fe80::/64"),
        ("", ""),
        (None, ""),
    ],
)
def test_the_key_of_an_address_is_what_a_host_has(peer: object, address: str) -> None:
    assert address_of(peer) == address


def test_a_refusal_reaches_a_client_that_still_sends(server: FakeServer) -> None:
    """Unread bytes at the close of a socket reset the connection, and the answer is lost."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        body = b"x" * 8_000_000
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body))
        sender = threading.Thread(target=lambda: connection.sendall(body), daemon=True)
        sender.start()
        time.sleep(0.2)
        assert statuses(connection.recv(4096)) == [413]
        sender.join(PATIENCE)
        assert not sender.is_alive()


def test_a_client_that_sends_on_after_a_refusal_is_disconnected(server: FakeServer) -> None:
    """The server discards further bytes for a second, not forever."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        connection.sendall(get(b"/health", b"Content-Length: x"))
        assert statuses(connection.recv(4096)) == [400]
        started = time.monotonic()
        with suppress(ConnectionError):
            while time.monotonic() - started < 1 + SLACK:
                connection.sendall(b"x")
                time.sleep(0.05)
        assert 0.9 < time.monotonic() - started < 1 + SLACK


def test_tls_is_refused_immediately_with_one_line_each_in_the_log() -> None:
    """The answer in plain HTTP makes clients report the wrong version of TLS."""
    context, hello = ssl.create_default_context(), client_hello()
    with fake_server() as server:
        started = time.monotonic()
        with (
            socket.create_connection(("127.0.0.1", server.port)) as connection,
            pytest.raises(ssl.SSLError, match=r"(?i)wrong.version.number"),
        ):
            context.wrap_socket(connection, server_hostname="localhost")
        for _ in range(9):  # the hello may arrive before the connection's task begins
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                connection.sendall(hello)
                assert connection.recv(1024).startswith(b"HTTP/1.1 400 ")
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            for piece in (hello[:1], hello[1:]):
                connection.sendall(piece)
                time.sleep(0.05)
            assert connection.recv(1024).startswith(b"HTTP/1.1 400 ")
        assert time.monotonic() - started < SLACK
        server.process.terminate()
        log = server.output()
    assert log.count("a client spoke TLS to this port, which serves plain HTTP; use http:// in its URL") == 11
