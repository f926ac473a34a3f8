"""Connections that cost and bring nothing: what the others notice of them, and what is left of them."""

import contextlib
import resource
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fake_process import SLACK, FakeServer, chat_request, fake_server


def connect(server: FakeServer, data: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    if data:
        connection.sendall(data)
    return connection


def request_seconds(server: FakeServer, count: int) -> tuple[float, float]:
    """The median and the 99th percentile of as many requests, one after the other."""
    seconds = []
    for _ in range(count):
        started = time.monotonic()
        assert server.chat(max_tokens=3).status == 200
        seconds.append(time.monotonic() - started)
    seconds.sort()
    return seconds[count // 2], seconds[count * 99 // 100]


@pytest.mark.nightly("idle and slow connections")
@pytest.mark.serial
def test_idle_and_slow_connections_do_not_slow_other_requests(full: bool, figure: Callable[[str], None]) -> None:
    """Rounds without and with the idle connections alternate, and the best counts: server cost shows in each."""
    num_idle, num_slow, num_asked, num_rounds = (1000, 200, 200, 5) if full else (300, 100, 15, 1)
    wanted = num_idle + num_slow + 200
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # the server inherits it
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(wanted, hard)), hard))
    rounds = []
    quiet = {"log_level": "error"}  # or the unread pipe fills up
    limits = {"header_timeout": 3.0, "max_connections": wanted, "max_connections_per_address": wanted}
    with fake_server(server=quiet | limits) as server:
        for _ in range(num_rounds):
            alone = request_seconds(server, num_asked)
            idle = [connect(server, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n") for _ in range(num_idle)]
            assert all(connection.recv(1000) for connection in idle)  # else they would be closed as silent
            slow = [connect(server, b"GET /health HTTP/1.1\r\nx: ") for _ in range(num_slow)]
            started = time.monotonic()
            among = request_seconds(server, num_asked)
            measured = time.monotonic() - started
            assert among[0] < 2 * alone[0] + 0.25
            rounds.append((alone, among))
            for connection in slow:
                connection.settimeout(6)
                assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
            assert time.monotonic() - started < max(3 + 2, measured) + SLACK
            for connection in idle + slow:
                connection.close()
            server.wait_until(lambda: server.gauge("process_open_fds") < 40)
    grown = [min(among[kind] / alone[kind] for alone, among in rounds) for kind in (0, 1)]
    if full:
        assert max(grown) < 1.2, rounds
    text = f"{grown[0]:.2f} (p50) and {grown[1]:.2f} (p99) times what it takes alone"
    figure(f"{num_idle} idle, {num_slow} slow heads: a request takes {text}, best of {num_rounds} rounds")


@pytest.mark.nightly("silent connections")
def test_silent_connections_cost_little(full: bool, figure: Callable[[str], None]) -> None:
    """A flood of them takes little memory and little of the event loop's time."""
    num_each, num_rounds = 700, 5 if full else 1
    with fake_server(server={"log_level": "error"}) as server, contextlib.ExitStack() as stack:
        server.get("/health")
        before, spent = server.gauge("process_resident_memory_bytes"), loop_seconds(server.process.pid)
        for _ in range(num_rounds):
            for _ in range(num_each):
                stack.enter_context(connect(server))
            assert server.get("/health").status == 200
        grown = (server.gauge("process_resident_memory_bytes") - before) / num_each
        each = (loop_seconds(server.process.pid) - spent) / (num_each * num_rounds)
        assert grown < 3 << 10
    figure(f"{num_rounds} times {num_each}: {grown / 1024:.1f} KiB and {each * 1e6:.0f} us of the event loop each")


def loop_seconds(pid: int) -> float:
    """CPU time of the main thread, which runs the event loop."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9


def test_a_server_without_file_descriptors_recovers() -> None:
    """With no file descriptor left, the server neither spins nor dies, and recovers."""
    with fake_server() as server:
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (64, 64))
        held = []
        for _ in range(120):
            with contextlib.suppress(OSError):
                held.append(connect(server))
        time.sleep(0.5)
        before, started = cpu_seconds(server.process.pid), time.monotonic()
        time.sleep(2)
        assert (cpu_seconds(server.process.pid) - before) / (time.monotonic() - started) < 0.2 + BUSY
        for connection in held:
            connection.close()
        server.wait_until(lambda: answers(server))
        assert server.chat(max_tokens=1).status == 200


BUSY = 0.3  # what the fake engine's loop itself costs


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def answers(server: FakeServer) -> bool:
    try:
        return server.get("/health").status == 200
    except OSError:
        return False


def test_a_killed_server_cuts_its_streams() -> None:
    """`kill -9` during a stream: the client gets no `[DONE]`."""
    with fake_server(interval=0.01) as server:
        connection = connect(server, chat_request(stream=True))
        assert connection.recv(100)
        server.process.send_signal(signal.SIGKILL)
        received = b""
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(65536):
                received += piece
        assert b"[DONE]" not in received
        assert not received.endswith(b"0\r\n\r\n")
        server.process.wait(5)
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", server.port))


@pytest.mark.slow
@pytest.mark.nightly("hostile requests")
def test_hostile_requests_leave_no_memory(full: bool, figure: Callable[[str], None]) -> None:
    """A hundred of each of the worst requests add at most 1 MiB, after as many for warm-up."""
    rounds = 5 if full else 1
    worst = [
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"1\r\n[\r\n" * 1_000,
        b"GET / HTTP/1.1\r\nHost: localhost\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
        b"\x00" * 100_000,
        chat_request("x" * 1_000_000, model="nope"),
        chat_request(**{"temperature": "x" * 100_000}),
    ]
    quiet = {"log_level": "warning"}  # or the unread pipe fills up
    with fake_server(server=quiet) as server, ThreadPoolExecutor(4) as pool:

        def storm(count: int) -> float:
            list(pool.map(lambda i: hit(server, worst[i % len(worst)]), range(count * len(worst))))
            assert server.chat(max_tokens=1).status == 200
            return server.gauge("process_resident_memory_bytes")

        storm(50)
        warm = storm(50)
        growth = (storm(100 * rounds) - warm) / (1 << 20)
        assert growth < len(worst) * rounds
        server.process.terminate()
        assert "Traceback" not in server.output()
    figure(f"{100 * rounds * len(worst)} requests: {growth:+.2f} MiB")


def hit(server: FakeServer, data: bytes) -> None:
    with contextlib.suppress(OSError), connect(server, data) as connection:
        connection.settimeout(0.3)
        connection.recv(1000)


@pytest.mark.nightly("starts and stops")
@pytest.mark.serial
def test_every_start_gets_the_port_and_every_stop_is_quick(full: bool, figure: Callable[[str], None]) -> None:
    seconds = []
    for _ in range(50 if full else 3):
        with fake_server() as server:
            assert server.chat(max_tokens=1).status == 200
            started = time.monotonic()
            server.process.terminate()
            assert server.process.wait(5) == 0
            seconds.append(time.monotonic() - started)
    assert max(seconds) < 1.5 + SLACK
    figure(f"{len(seconds)} of {len(seconds)}; the slowest idle exit took {max(seconds):.2f} s")
