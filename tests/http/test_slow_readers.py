"""A client that reads its stream slowly costs little memory, and gets the same answer."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
from contextlib import suppress
from typing import Any

import pytest
from fake_process import SLACK, FakeServer, chat_request, fake_server

MIB = 1 << 20
HEAVY = {"stream": True, "n": 8, "logprobs": True, "top_logprobs": 20}  # about 50 KiB for each token of the eight
FAKE = {"max_model_len": 1 << 21, "interval": 0.001}
SYNTHETIC = {"engine": "synthetic", "rows": 8, "capacity": 4096, "exact": True}


def slow_reader(server: FakeServer, **fields: object) -> socket.socket:
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.connect(("127.0.0.1", server.port))
    reader.settimeout(20)
    reader.sendall(chat_request(**fields).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
    return reader


def read_all(reader: socket.socket) -> bytes:
    received = bytearray()
    while piece := reader.recv(1 << 20):
        received += piece
    return bytes(received)


def choices(received: bytes) -> dict[int, list[Any]]:
    """The chunks of each answer, of a whole response with its head, in chunked coding."""
    body = re.sub(rb"\r\n[0-9a-f]+\r\n", b"", received.partition(b"\r\n\r\n")[2].partition(b"\r\n")[2])
    frames = [frame for frame in body.split(b"\n\n") if frame.startswith(b"data: {")]
    chunks = [choice for frame in frames for choice in json.loads(frame[6:])["choices"]]
    return {index: [chunk for chunk in chunks if chunk["index"] == index] for index in range(8)}


@pytest.mark.parametrize("bytes_per_second", [0, 20_000])
def test_the_backlog_of_a_slow_reader_is_limited(bytes_per_second: int) -> None:
    """Without a limit it would grow by more than 10 MiB/s."""
    with fake_server(rows=4, **FAKE) as server, slow_reader(server, max_tokens=100_000, **HEAVY) as reader:
        server.chat(max_tokens=5, stream=True)
        time.sleep(0.5)
        before = server.gauge("process_resident_memory_bytes")
        end = time.monotonic() + 4
        while time.monotonic() < end:
            assert not bytes_per_second or reader.recv(bytes_per_second // 20)
            time.sleep(0.05)
        assert server.gauge("process_resident_memory_bytes") - before < 12 * MIB
        assert server.gauge("infrs_requests_running") == 1
        assert server.chat(max_tokens=5).json["usage"]["completion_tokens"] == 5


def test_the_kernel_holds_little_for_a_slow_reader() -> None:
    """It would hold megabytes, for which a request runs on although its reader is behind."""
    with fake_server(rows=4, **FAKE) as server, slow_reader(server, max_tokens=100_000, **HEAVY) as reader:
        time.sleep(2)
        server.process.send_signal(signal.SIGSTOP)
        reader.settimeout(1)
        held = 0
        with suppress(TimeoutError):
            while piece := reader.recv(1 << 16):
                held += len(piece)
        server.process.send_signal(signal.SIGCONT)
        assert MIB // 16 < held < MIB // 2


@pytest.mark.parametrize("options", [FAKE | {"rows": 8}, SYNTHETIC], ids=["fake", "synthetic"])
def test_a_slow_reader_gets_the_same_answer(options: dict[str, Any]) -> None:
    """Its answers are about four times as long as what the sockets and the backlog hold."""
    with fake_server(**options) as server:
        fields = HEAVY | {"max_tokens": 400, "temperature": 1.5, "seed": 5, "ignore_eos": True}
        with slow_reader(server, **fields) as reader:
            expected = choices(read_all(reader))
        assert all(len(expected[index]) > 100 for index in range(8))
        with slow_reader(server, **fields) as reader:
            time.sleep(1)
            begun = reader.recv(200_000)
            time.sleep(1)
            assert server.gauge("infrs_requests_running") >= 1  # else the reader was not slow
            assert choices(begun + read_all(reader)) == expected


def test_the_deadline_of_a_request_frees_the_slot_of_a_slow_reader() -> None:
    options = {"request_timeout": 1.0, "send_timeout": 60.0}
    with (
        fake_server(rows=1, server=options, **FAKE) as server,
        slow_reader(server, max_tokens=100_000, **HEAVY) as reader,
    ):
        server.wait_until(lambda: server.gauge("infrs_requests_running") == 1)
        started = time.monotonic()
        while server.gauge("infrs_requests_running"):
            assert reader.recv(100)
            assert time.monotonic() - started < 1 + SLACK
            time.sleep(0.02)
        assert server.chat(max_tokens=3).status == 200
