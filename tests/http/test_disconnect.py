"""A client that leaves, or that does not read, holds no slot."""

import socket
import struct
import time
from collections.abc import Iterator

import pytest
from fake_process import FakeServer, chat_request, fake_server

FREED_SECONDS = 2.0  # a step of the fake takes 5 ms, its whole answer far longer than this


@pytest.fixture(scope="module")
def slow_server() -> Iterator[FakeServer]:
    with fake_server(rows=1, max_queue=8, max_model_len=1 << 21, interval=0.005) as running:
        yield running


def connect(server: FakeServer, data: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    connection.sendall(data)
    return connection


def leave(connection: socket.socket, how: str) -> None:
    match how:
        case "close":
            connection.close()
        case "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        case "half-close":
            connection.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
@pytest.mark.parametrize("size", [10, 66_000, 1_000_000])
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_the_slot_of_its_running_request(
    slow_server: FakeServer, size: int, stream: bool, how: str
) -> None:
    connection = connect(slow_server, chat_request("x" * size, stream=stream))
    slow_server.wait_until(lambda: slow_server.gauge("infrs_requests_running") == 1)
    if stream:
        assert connection.recv(100)
    leave(connection, how)
    assert slow_server.wait_idle() < FREED_SECONDS
    connection.close()


def test_a_client_that_leaves_frees_the_place_of_its_waiting_request(slow_server: FakeServer) -> None:
    first = connect(slow_server, chat_request())
    slow_server.wait_until(lambda: slow_server.gauge("infrs_requests_running") == 1)
    second = connect(slow_server, chat_request())
    slow_server.wait_until(lambda: slow_server.gauge("infrs_requests_waiting") == 1)
    second.close()
    slow_server.wait_until(lambda: slow_server.gauge("infrs_requests_waiting") == 0, FREED_SECONDS)
    assert slow_server.gauge("infrs_requests_running") == 1
    first.close()
    slow_server.wait_idle()


def test_a_client_that_leaves_within_its_body_harms_no_other(slow_server: FakeServer) -> None:
    connection = connect(slow_server, chat_request()[:-5])
    time.sleep(0.05)
    connection.close()
    assert slow_server.chat(max_tokens=1).status == 200


def test_a_client_that_leaves_is_counted_with_status_499(slow_server: FakeServer) -> None:
    name = 'infrs_requests_total{route="/v1/chat/completions",status="499"}'
    before = slow_server.get("/metrics").body.decode().count(name) and slow_server.gauge(name)
    connection = connect(slow_server, chat_request(stream=True))
    assert connection.recv(100)
    connection.close()
    slow_server.wait_idle()
    slow_server.wait_until(lambda: slow_server.gauge(name) == before + 1)


def test_a_client_that_reads_nothing_is_disconnected() -> None:
    with fake_server(rows=1, max_model_len=1 << 21, interval=0.0, server={"send_timeout": 0.3}) as server:
        reader = socket.socket()
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect(("127.0.0.1", server.port))
        reader.sendall(chat_request(stream=True))
        server.wait_until(lambda: server.gauge("infrs_requests_running") == 1)
        server.wait_until(lambda: server.gauge("infrs_requests_running") == 0, 20)
        assert server.gauge("infrs_output_tokens_total") < 1 << 20  # cut, not finished
        reader.close()
        assert server.chat(max_tokens=1).status == 200


@pytest.mark.slow
def test_a_client_that_reads_slowly_is_not_disconnected() -> None:
    """A client reads a few KiB/s of a faster stream, for several times `server.send_timeout`."""
    limit = 1.0
    with fake_server(rows=1, max_model_len=1 << 21, interval=0.01, server={"send_timeout": limit}) as server:
        with socket.socket() as reader:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect(("127.0.0.1", server.port))
            reader.settimeout(5)
            reader.sendall(chat_request(stream=True, max_tokens=100_000, logprobs=True, top_logprobs=20))
            end = time.monotonic() + 6 * limit
            while time.monotonic() < end:
                assert reader.recv(800)
                time.sleep(0.05)
            assert server.gauge("infrs_requests_running") == 1
        server.wait_idle()
