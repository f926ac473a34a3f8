"""Limits of WebSockets: sizes, deadlines, slow and lost clients, places and the end of the server."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator

import pytest
from fake_process import MODEL, SLACK, FakeServer, fake_server
from sockets import client_of, close_code, frame, raw_socket, read_frames
from websockets.exceptions import ConnectionClosed

TEXT, CONTINUED, CLOSE, PING, PONG = 1, 0, 8, 9, 10
POLICY, TOO_BIG, GOING_AWAY = 1008, 1009, 1001
CREATE = json.dumps({"type": "response.create", "model": MODEL, "input": "please stop", "store": False}).encode()
ENDLESS = {"max_model_len": 1 << 21, "interval": 0.001}


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    limits = {"access_log": False, "max_body_bytes": 1 << 16, "body_timeout": 1, "ping_interval": 1}
    with fake_server(rows=4, max_queue=60, max_model_len=1 << 15, interval=0.01, server=limits) as running:
        yield running


def events(opened: socket.socket) -> Iterator[str]:
    for opcode, data in read_frames(opened):
        if opcode == TEXT:
            yield str(json.loads(data)["type"])


def test_frames_that_arrive_with_the_handshake_are_answered(server: FakeServer) -> None:
    with raw_socket(server, frame(TEXT, CREATE)) as opened:
        assert "response.completed" in events(opened)


def test_a_message_of_several_frames_is_one_message(server: FakeServer) -> None:
    pieces = [CREATE[:10], b"", CREATE[10:20], CREATE[20:]]
    parts = [frame(TEXT if index == 0 else CONTINUED, each, fin=index == 3) for index, each in enumerate(pieces)]
    with raw_socket(server) as opened:
        opened.sendall(frame(PING, b"between").join(parts))
        assert "response.completed" in events(opened)


def test_a_ping_is_answered(server: FakeServer) -> None:
    with raw_socket(server) as opened:
        opened.sendall(frame(PING, b"here"))
        assert (PONG, b"here") in read_frames(opened)


def test_the_server_pings_while_nothing_is_sent(server: FakeServer) -> None:
    with raw_socket(server) as opened:
        assert (PING, b"") in read_frames(opened)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(TEXT, b"x" * (1 << 15), fin=False) + frame(CONTINUED, b"x" * ((1 << 15) + 1)), TOO_BIG),
        (frame(TEXT, b"{", fin=False), POLICY),  # no more within server.body_timeout
        (frame(TEXT, CREATE)[:20], POLICY),
        (frame(TEXT, b"{", fin=False) + frame(CONTINUED, b" ", fin=False) * 2000, POLICY),
        (frame(PONG, b"") * 2000, POLICY),
        (frame(TEXT, b"{}") * 2000, POLICY),
        (frame(TEXT, CREATE + b" " * 8000) * 20, POLICY),
        (frame(CONTINUED, b"x"), 1002),
        (frame(3, b"x"), 1002),
        (b"\x81\x01x", 1002),  # without a mask
    ],
    ids=["size", "late_frame", "late_bytes", "small_parts", "pongs", "many", "large_queue", "order", "opcode", "mask"],
)
def test_a_client_beyond_a_limit_is_disconnected(server: FakeServer, sent: bytes, code: int) -> None:
    with raw_socket(server) as opened:
        opened.sendall(sent)
        assert close_code(opened) == code
    server.wait_idle()


def test_a_client_that_leaves_ends_its_answer(server: FakeServer) -> None:
    for leaves_politely in (True, False):
        with raw_socket(server) as opened:
            opened.sendall(frame(TEXT, CREATE.replace(b"please stop", b"on and on")))
            server.wait_until(lambda: server.gauge("infrs_requests_running") == 1)
            if leaves_politely:
                opened.sendall(frame(CLOSE, b"\x03\xe8"))
                assert close_code(opened) == 1000
        server.wait_idle()


def test_a_client_that_reads_nothing_is_disconnected() -> None:
    with (
        fake_server(**ENDLESS, server={"access_log": False, "send_timeout": 1}) as server,
        raw_socket(server) as opened,
    ):
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wanted = {"max_output_tokens": 1 << 20, "top_logprobs": 20}
        opened.sendall(frame(TEXT, json.dumps(json.loads(CREATE) | {"input": "on"} | wanted).encode()))
        server.wait_until(lambda: server.gauge("infrs_requests_running") == 1)
        before = server.gauge("process_resident_memory_bytes")
        server.wait_until(lambda: server.gauge("infrs_requests_running") == 0, 20 + SLACK)
        assert server.gauge("process_resident_memory_bytes") - before < 32 << 20


def test_replies_to_a_client_that_reads_nothing_are_limited(server: FakeServer) -> None:
    with raw_socket(server) as opened:
        opened.settimeout(5)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with pytest.raises(OSError):  # noqa: PT011  # reset, or timed out once the kernel's buffers are full
            opened.sendall(frame(PING, b"x" * 125) * 500_000)
        assert server.gauge("process_resident_memory_bytes") < 1 << 30


def test_a_socket_that_waits_makes_room_for_a_new_connection() -> None:
    with fake_server(server={"access_log": False, "max_connections": 4, "max_connections_per_address": 4}) as server:
        waiting = [raw_socket(server) for _ in range(4)]
        assert server.get("/health").status == 200
        time.sleep(0.1)
        waiting[0].settimeout(5)
        assert not waiting[0].recv(1)
        for opened in waiting:
            opened.close()


def test_a_place_of_the_reserve_is_not_for_a_socket() -> None:
    settings = {"access_log": False, "max_connections": 1, "max_connections_per_address": 1}
    with fake_server(**ENDLESS, server=settings) as server, raw_socket(server) as busy:
        busy.sendall(frame(TEXT, CREATE.replace(b"please stop", b"on and on")))
        assert next(events(busy)) == "response.created"
        with pytest.raises(AssertionError):
            raw_socket(server)
        assert "response.completed" not in [next(events(busy))]


def test_a_socket_that_waits_ends_with_the_server() -> None:
    with fake_server(server={"access_log": False}) as server, raw_socket(server) as opened:
        server.process.terminate()
        assert close_code(opened) == GOING_AWAY
        assert server.process.wait(10 + SLACK) == 0


def test_an_answer_that_runs_is_completed_before_the_server_ends() -> None:
    with fake_server(interval=0.1, server={"access_log": False}) as server, client_of(server) as client:
        client.send(input="please stop")
        server.wait_until(lambda: server.gauge("infrs_requests_running") == 1)
        server.process.terminate()
        assert client.receive()[-1]["type"] == "response.completed"
        with pytest.raises(ConnectionClosed) as closed:
            client.connection.recv(timeout=10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == GOING_AWAY
        assert server.process.wait(10 + SLACK) == 0


def test_a_full_queue_is_an_error_event_with_a_hint_when_to_retry() -> None:
    with fake_server(rows=1, max_queue=0, **ENDLESS, server={"access_log": False}) as server, client_of(server) as busy:
        busy.send(input="on and on", max_output_tokens=1 << 20)
        server.wait_until(lambda: server.gauge("infrs_requests_running") == 1)
        with client_of(server) as client:
            [event] = client.ask(input="a")
    assert (event["status"], event["error"]["code"]) == (429, "queue_full")
    assert event["error"]["headers"] == {"retry-after": "1"}
