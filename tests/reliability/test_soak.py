"""Memory under continuous load: the real engine over the synthetic graph, behind the real server."""

from __future__ import annotations

import contextlib
import random
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pytest
from fake_process import FakeServer, chat_body, chat_request, fake_server

MIB = 1 << 20
QUIET = {"access_log": False, "log_level": "error"}  # or the unread pipe fills up
CLIENTS = 8


@contextlib.contextmanager
def soaked() -> Iterator[FakeServer]:
    """A server that must be as it was when the block ends: nothing in flight, no file and no thread more."""
    with fake_server(engine="synthetic", rows=4, max_queue=60, capacity=256, server=QUIET) as server:
        assert server.chat(max_tokens=4).status == 200
        files, threads = server.gauge("process_open_fds"), count_threads(server)
        yield server
        server.wait_idle()
        server.wait_until(lambda: server.gauge("process_open_fds") <= files + 2, 60)
        assert count_threads(server) <= threads + 2  # of the pool for texts, which starts them as it needs them
        assert server.gauge("infrs_invariant_violations_total") == 0
        server.process.terminate()
        assert "Traceback" not in server.output()


def count_threads(server: FakeServer) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/task").iterdir()))


def memory(server: FakeServer) -> float:
    """Resident memory in MiB."""
    return server.gauge("process_resident_memory_bytes") / MIB


def ask(server: FakeServer, number: int) -> None:
    """One request of the mix: 70 % streamed, 10 % left early, 5 % invalid, 5 % with more answers, 10 % long."""
    choose = random.Random(number)
    kind, text = choose.random(), f"tell me of {choose.randrange(10**6)}"
    stream = choose.random() < 0.7
    if kind < 0.10:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.port), 10) as connection:
            connection.sendall(chat_request(text, stream=stream, max_tokens=60))
            connection.settimeout(choose.random() * 0.05)
            connection.recv(1000)
    elif kind < 0.15:
        assert server.chat(text, temperature=9).status == 400
    elif kind < 0.20:
        assert server.chat(text, n=3, max_tokens=8, stream=stream).status == 200
    else:
        answer = server.chat(text * 6 if kind < 0.30 else text, max_tokens=16, stream=stream)
        assert answer.status == 200, answer.body


@pytest.mark.slow
@pytest.mark.nightly("soak")
@pytest.mark.serial
def test_a_mix_of_requests_leaks_no_memory(full: bool, figure: Callable[[str], None]) -> None:
    """The full form allows 0.1 MiB per thousand requests; the quick form finds only large leaks.

    Requests follow each other without pause. Five minutes after one of warm-up are about 100,000 requests.
    """
    warm, seconds, size = (60.0, 300.0, 1000) if full else (1.0, 1.5, 100)
    with soaked() as server, ThreadPoolExecutor(CLIENTS) as pool:
        numbers = iter(range(10**9))

        def soak(seconds: float) -> list[float]:
            """The memory after each `size` requests."""
            samples, end = [], time.monotonic() + seconds
            while time.monotonic() < end or len(samples) < 3:
                list(pool.map(lambda number: ask(server, number), islice(numbers, size)))
                server.wait_idle()
                samples.append(memory(server))
            return samples

        *_, before = soak(warm)
        samples = soak(seconds)
        slope = 1000 / size * statistics.linear_regression(range(len(samples)), samples).slope
        growth = samples[-1] - before
        assert growth < 16, [round(sample) for sample in samples]
        if full:
            assert len(samples) * size >= 20_000
            assert slope < 0.1, " ".join(f"{sample:.1f}" for sample in samples)
    figure(
        f"{len(samples) * size:,} requests in {seconds:.0f} s: {slope:+.3f} MiB per 1,000, {growth:+.1f} MiB in all",
    )


@pytest.mark.slow
@pytest.mark.nightly("chunks of one byte")
def test_small_chunks_leak_no_memory(full: bool, figure: Callable[[str], None]) -> None:
    """Row 44: a body in 65,537 chunks of one byte is refused or cut, and leaves no memory in use."""
    head = chat_request().partition(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    with soaked() as server, ThreadPoolExecutor(CLIENTS) as pool:

        def send(number: int) -> None:
            with socket.create_connection(("127.0.0.1", server.port), 60) as connection:
                connection.sendall(head + b"1\r\n \r\n" * (65_537 if number % 2 else 1000))
                connection.shutdown(socket.SHUT_WR)
                assert connection.recv(100).startswith(b"HTTP/1.1 413 " if number % 2 else b"")

        def storm(count: int) -> float:
            list(pool.map(send, range(count)))
            server.wait_until(lambda: server.gauge("process_open_fds") < 40, 120)  # all are read to their ends
            return memory(server)

        count = 100 if full else 20
        storm(count)
        warm = storm(count)
        growth = storm(count) - warm
        assert growth < 1
    figure(f"{count} bodies of 65,537 or 1,000 chunks after as many: {growth:+.1f} MiB")


@pytest.mark.slow
def test_a_large_body_does_not_outlive_its_answer() -> None:
    """It is freed before the garbage collector runs, which counts objects and not their bytes."""
    headers = {"content-type": "application/json", "connection": "close"}
    with soaked() as server:

        def send(count: int) -> float:
            for number in range(count):
                body = chat_body(max_tokens=1, stream=number % 2 == 0).ljust(4 << 20)
                assert server.request("POST", "/v1/chat/completions", body, headers).status == 200
            return memory(server)

        before = send(4)
        assert send(24) - before < 24  # MiB, of 96 that were sent
