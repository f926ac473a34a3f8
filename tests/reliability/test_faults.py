"""Faults while it runs: of the client, the machine and the libraries. None ends more than the request that it meets."""

from __future__ import annotations

import ast
import contextlib
import os
import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fake_process import SLACK, FakeServer, chat_request, fake_server

ROOT = Path(__file__).parents[2]
FAULTY = ROOT / "tests" / "http" / "faulty_server.py"
POISONED = ROOT / "tests" / "http" / "poisoned_server.py"
QUIET = {"access_log": False, "log_level": "error"}


@pytest.fixture(scope="module")
def faulty() -> Iterator[FakeServer]:
    with fake_server(script=FAULTY) as running:
        yield running


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("word", "error"),
    [
        ("unreadable", (500, "server_error", None, "internal_error")),
        ("panic", (500, "server_error", None, "internal_error")),
        ("memory", (503, "server_error", None, "out_of_memory")),
    ],
)
def test_a_failing_tokenizer_fails_only_its_request(
    faulty: FakeServer, word: str, error: tuple[int, str, str | None, str], stream: bool
) -> None:
    """The library's message goes to the log only."""
    answer = faulty.chat(word, stream=stream)
    assert answer.error == error
    assert ("retry-after" in answer.headers) == (error[0] == 503)
    assert faulty.post("/tokenize", prompt=word).error[0] == error[0]
    assert faulty.chat("hi", max_tokens=2).status == 200
    assert faulty.wait_idle() < 1 + SLACK


@pytest.fixture(scope="module")
def poisoned() -> Iterator[FakeServer]:
    with fake_server(script=POISONED, rows=4, max_queue=8) as running:
        yield running


@pytest.mark.parametrize("at", [0, 3])
def test_scores_that_are_not_numbers_are_an_error(poisoned: FakeServer, at: int) -> None:
    """Streamed and whole, with log-probabilities: an error, never NaN, and no effect on its neighbours."""
    asked = {"logprobs": True, "top_logprobs": 5, "ignore_eos": True}
    sick = asked | {"seed": 1000 + at, "max_tokens": 20}

    def well() -> object:
        return poisoned.chat("well", seed=7, max_tokens=60, **asked).json["choices"]

    alone = well()
    with ThreadPoolExecutor(3) as pool:
        beside = [pool.submit(well) for _ in range(2)]
        for _ in range(3):
            whole = poisoned.chat("sick", **sick)
            assert whole.error == (500, "server_error", None, "numerical_error")
            streamed = poisoned.chat("sick", stream=True, **sick)
            assert not any(b"nan" in answer.body.lower() for answer in (whole, streamed))
            if at == 0:  # nothing was sent, so the status shows it
                assert streamed.error == whole.error
                continue
            assert streamed.status == 200
            *chunks, last = streamed.events
            assert (last["error"]["type"], last["error"]["code"]) == ("server_error", "numerical_error")
            scored = [
                entry for chunk in chunks for entry in (chunk["choices"][0]["logprobs"] or {"content": []})["content"]
            ]
            assert 0 < len(scored) <= at
            assert all(isinstance(entry["logprob"], float) for entry in scored)
        assert [one.result() for one in beside] == [alone, alone]
    assert well() == alone
    assert poisoned.wait_idle() < 1 + SLACK


def test_full_log_pipe_blocks_no_request() -> None:
    """The pipe of standard error breaks; the server still answers and shuts down cleanly."""
    reading, writing = os.pipe()
    with fake_server(stderr=writing) as server:
        os.close(reading)
        os.close(writing)
        for _ in range(20):
            assert server.chat(max_tokens=1).status == 200
        server.raw(b"\x00\r\n\r\n")
        assert server.chat("boom", max_tokens=5).status == 500
        server.process.terminate()
        assert server.process.wait(10) == 0


def test_no_deadline_depends_on_the_wall_clock() -> None:
    """Setting the wall clock forward or back triggers no timeout: only timestamps in answers and logs use it."""
    shown = {"created", "completed", "expires", "content", "self._created"}
    readings = []
    for path in (ROOT / "infrs").rglob("*.py"):
        tree = ast.parse(path.read_text())
        parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "time.time",
                "datetime.now",
                "datetime.utcnow",
            ):
                user: ast.AST = node
                while not isinstance(user, ast.keyword | ast.Assign | ast.stmt):
                    user = parents[user]
                name = user.arg if isinstance(user, ast.keyword) else ast.unparse(user).partition(" = ")[0]
                readings.append((path.parent.name, name))
    assert len(readings) > 3
    # A template may ask for the date. The times of batches outlive a restart.
    assert {name for folder, name in readings if folder not in ("sandbox", "batches")} <= shown


def test_requests_may_share_a_request_id(faulty: FakeServer) -> None:
    """A client's request id identifies nothing inside the server."""
    with ThreadPoolExecutor(4) as pool:
        headers = {"content-type": "application/json", "x-request-id": "one-of-them"}
        body = chat_request(max_tokens=20).partition(b"\r\n\r\n")[2]
        asked = [pool.submit(faulty.request, "POST", "/v1/chat/completions", body, headers) for _ in range(4)]
        answers = [one.result() for one in asked]
    assert {answer.status for answer in answers} == {200}
    assert {answer.headers["x-request-id"] for answer in answers} == {"one-of-them"}
    assert len({answer.json["id"] for answer in answers}) == 4
    assert len({answer.json["choices"][0]["message"]["content"] for answer in answers}) == 1


def leave(server: FakeServer, number: int) -> None:
    """Ask with a body of some size, and leave in some way at some moment: in any phase of the request."""
    choose = random.Random(number)
    data = chat_request("x" * choose.choice([10, 300, 900]), stream=choose.random() < 0.5, max_tokens=40)
    if (size := choose.choice([0, 66_000, 1_000_000])) and choose.random() < 0.9:
        head, _, body = data.partition(b"\r\n\r\n")
        head = head.rpartition(b"\r\n")[0] + b"\r\nContent-Length: %d" % (len(body) + size)
        data = head + b"\r\n\r\n" + body + b" " * size
    data = data[: choose.randrange(1, len(data))] if choose.random() < 0.2 else data
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    with contextlib.suppress(OSError):
        connection.sendall(data)
        time.sleep(choose.random() ** 3 * 0.15)
        match choose.choice(["close", "reset", "half-close"]):
            case "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            case "half-close":
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(5)
                while connection.recv(65536):
                    pass
    connection.close()


@pytest.mark.slow
@pytest.mark.nightly("clients that disconnect")
def test_clients_that_leave_change_no_answer_of_others(full: bool, figure: Callable[[str], None]) -> None:
    """Clients abandon half of the requests; the other half get the same answers as alone."""
    count = 1000 if full else 100
    with fake_server(engine="synthetic", rows=4, max_queue=60, capacity=1024, server=QUIET) as server:

        def whole(number: int) -> object:
            fields = {"temperature": 1.0, "seed": number, "max_tokens": 20}
            answer = server.chat(f"say {number % 10} " * (1 + number % 10), **fields)
            assert answer.status == 200
            return answer.json["choices"][0]

        expected = [whole(number) for number in range(20)]
        with ThreadPoolExecutor(8) as pool:
            left = [pool.submit(leave, server, number) for number in range(count // 2)]
            answers = [pool.submit(whole, number % 20) for number in range(count // 2)]
            assert [one.result() for one in answers] == [expected[number % 20] for number in range(count // 2)]
            for one in left:
                one.result()
        idle = server.wait_idle()
        assert idle < 2 + SLACK
        assert server.gauge("infrs_invariant_violations_total") == 0
        server.process.terminate()
        assert "Traceback" not in server.output()
    figure(f"{count // 2} disconnected in any phase, {count // 2} answered as if alone")
