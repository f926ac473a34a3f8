"""Many clients at the same time: slow ones, greedy ones, and long streams."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from fake_process import JSON, SLACK, Answer, FakeServer, chat_body, chat_request, fake_server, metric

pytestmark = pytest.mark.slow
QUIET = {"access_log": False, "log_level": "error"}  # or the unread pipe fills up
KEYS = ("key-of-the-busy", "key-of-the-calm")
MIB = 1 << 20


def share(samples: list[float], percent: int) -> float:
    """A percentile, in milliseconds."""
    return 1000 * sorted(samples)[min(len(samples) - 1, len(samples) * percent // 100)]


@pytest.mark.nightly("ramp")
@pytest.mark.serial
def test_throughput_holds_with_more_clients(full: bool, figure: Callable[[str], None]) -> None:
    """Answers or 429 only; every answer is complete; more clients do not lower the throughput."""
    seconds, steps = (20.0, [1, 2, 4, 8, 16, 32, 64, 128, 256]) if full else (1.0, [1, 8, 96])
    rates: dict[int, float] = {}
    with fake_server(rows=8, max_queue=64, interval=0.03, server=QUIET) as server:
        for clients in steps:
            end = time.monotonic() + seconds

            def loop(number: int, end: float = end) -> list[Answer]:
                choose, answers = random.Random(number), []
                while time.monotonic() < end:
                    count = choose.randrange(1, 20)
                    answer = server.chat(max_tokens=count)
                    assert answer.status in (200, 429)
                    if answer.status == 200:
                        assert answer.json["usage"]["completion_tokens"] == count
                        answers.append(answer)
                    else:
                        time.sleep(int(answer.headers["retry-after"]))
                return answers

            started = time.monotonic()
            with ThreadPoolExecutor(clients) as pool:
                answered = sum(len(answers) for answers in pool.map(loop, range(clients)))
            rates[clients] = answered / (time.monotonic() - started)
        server.wait_idle()
    if full:
        assert rates[256] > 0.9 * max(rates.values()), rates
    figure(", ".join(f"{clients} clients {rate:.0f}/s" for clients, rate in rates.items()))


@pytest.mark.nightly("health under load")
@pytest.mark.serial
def test_health_answers_under_load(full: bool, figure: Callable[[str], None]) -> None:
    """64 streams, with prompts of 32,000 tokens one after the other."""
    seconds, num_streams = (60.0, 64) if full else (2.0, 16)
    taken: list[float] = []
    with (
        fake_server(rows=num_streams, max_queue=8, max_model_len=1 << 17, interval=0.05, server=QUIET) as server,
        ThreadPoolExecutor(num_streams) as pool,
    ):
        tokens = int(seconds / 0.05)
        streams = [pool.submit(server.chat, stream=True, max_tokens=tokens) for _ in range(num_streams)]
        server.wait_until(lambda: server.gauge("infrs_requests_running") == num_streams, 20)
        stop = threading.Event()

        def long_prompts() -> None:
            while not stop.is_set():
                assert server.post("/tokenize", prompt="a b " * 8000).status == 200

        beside = threading.Thread(target=long_prompts)
        beside.start()
        end = time.monotonic() + seconds * 0.7
        while time.monotonic() < end:
            started = time.monotonic()
            assert server.get("/health").status == 200
            taken.append(time.monotonic() - started)
            time.sleep(0.01)
        stop.set()
        beside.join()
        assert {stream.result().status for stream in streams} == {200}
    assert max(taken) < SLACK
    if full:
        assert share(taken, 99) < 50
        assert max(taken) < 0.25
    words = f"{share(taken, 50):.1f} ms (p50), {share(taken, 99):.1f} ms (p99), {1000 * max(taken):.1f} ms at most"
    figure(f"{num_streams} streams and long prompts: {words}")


@pytest.mark.nightly("fairness")
@pytest.mark.serial
def test_a_short_request_is_fast_next_to_long_ones_of_another_key(full: bool, figure: Callable[[str], None]) -> None:
    """A short request gets a slot in the next step and takes at most three times its unloaded time.

    tests/engine/test_preemption.py tests this exactly. On a shared machine this test asserts only that few other
    requests end before it, and that it preempts one.
    """
    rows, num_short = 8, 100 if full else 5
    fields = {"ignore_eos": True, "temperature": 0}
    ended, stop = [0], threading.Event()

    def ask(server: FakeServer, key: str, max_tokens: int) -> Answer:
        headers = JSON | {"authorization": f"Bearer {key}"}
        return server.request("POST", "/v1/chat/completions", chat_body(max_tokens=max_tokens, **fields), headers)

    with (
        fake_server(
            engine="synthetic", exact=True, rows=rows, max_queue=80, capacity=1024, keys=",".join(KEYS), server=QUIET
        ) as server,
        ThreadPoolExecutor(64) as pool,
    ):

        def short() -> float:
            started = time.monotonic()
            assert ask(server, KEYS[1], 4).status == 200
            return time.monotonic() - started

        def long(number: int) -> None:
            choose = random.Random(number)
            while not stop.is_set():
                assert ask(server, KEYS[0], choose.randrange(100, 900)).status == 200
                ended[0] += 1

        alone = [short() for _ in range(num_short)]
        busy = [pool.submit(long, number) for number in range(64)]
        while ended[0] < 2 * rows:
            time.sleep(0.01)
        among, overtaken = [], []
        for _ in range(num_short):
            before = ended[0]
            among.append(short())
            overtaken.append(ended[0] - before)
        stop.set()
        for one in busy:
            one.result()
        page = server.request("GET", "/metrics", headers={"authorization": f"Bearer {KEYS[1]}"})
        taken = metric(page.body.decode(), "infrs_preemptions_total")
    assert max(overtaken) <= rows  # of the 64 that came before it
    assert taken >= 1
    if full:
        assert share(among, 99) <= 3 * share(alone, 99)
    times = f"{share(alone, 99):.0f} ms alone, {share(among, 99):.0f} ms next to 64 long ones (p99)"
    figure(f"a short request: {times}; {taken:.0f} of {num_short} preempted a sequence")


@pytest.mark.nightly("slow readers")
@pytest.mark.serial
def test_slow_readers_slow_no_other_request(full: bool, figure: Callable[[str], None]) -> None:
    """Readers of 1 KiB/s slow no other request and cost little memory; a reader that stops is disconnected."""
    # In full longer than send_timeout: a slow reader is not disconnected, however far it falls behind.
    num_readers, seconds = (200, 90.0) if full else (30, 3.0)
    rows, limit = num_readers + 4, 2.0
    settings = QUIET | {"send_timeout": 60.0, "max_connections": 2 * num_readers + 100}
    heavy = {"stream": True, "max_tokens": 100_000, "logprobs": True, "top_logprobs": 20}
    with fake_server(rows=rows, max_queue=8, max_model_len=1 << 21, interval=0.2, server=settings) as server:

        def median() -> float:
            taken = []
            for _ in range(5):
                started = time.monotonic()
                assert server.chat(max_tokens=3).status == 200
                taken.append(time.monotonic() - started)
            return sorted(taken)[2]

        alone, memory = median(), server.gauge("process_resident_memory_bytes")
        readers = []
        for _ in range(num_readers):
            reader = socket.socket()
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect(("127.0.0.1", server.port))
            reader.sendall(chat_request(**heavy))
            reader.setblocking(False)
            readers.append(reader)
        end = time.monotonic() + seconds
        among = []
        while time.monotonic() < end:
            turn = time.monotonic() + 1
            for reader in readers:
                with contextlib.suppress(BlockingIOError):
                    reader.recv(1024)
            among.append(median())
            time.sleep(max(0.0, turn - time.monotonic()))
        assert server.gauge("infrs_requests_running") == num_readers  # none of them is cut
        held = (server.gauge("process_resident_memory_bytes") - memory) / num_readers
        assert held < 4 * MIB + 65_536
        assert sorted(among)[len(among) // 2] < 2 * alone + SLACK
        for reader in readers:
            reader.close()
        server.wait_idle()
    with fake_server(rows=1, max_model_len=1 << 21, interval=0.0, server=QUIET | {"send_timeout": limit}) as server:
        with socket.socket() as stalled:
            stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stalled.connect(("127.0.0.1", server.port))
            stalled.sendall(chat_request(**heavy))
            server.wait_until(lambda: server.gauge("infrs_requests_running") == 1)
            cut = server.wait_until(lambda: server.gauge("infrs_requests_running") == 0, 60)
        assert server.chat(max_tokens=1).status == 200
    times = f"{1000 * alone:.0f} ms alone, {1000 * sorted(among)[len(among) // 2]:.0f} ms among them"
    figure(
        f"{num_readers} readers of 1 KiB/s, {held / 1024:.0f} KiB each: a request takes {times}; "
        f"a stopped reader is cut after {cut:.1f} s of {limit:g} s",
    )


@pytest.mark.nightly("streams")
def test_streams_are_complete_and_in_order(full: bool, figure: Callable[[str], None]) -> None:
    """No word is lost, duplicated or out of order; there is one end, and the usage is the sum."""
    count = 10_000 if full else 200

    def stream(number: int) -> str:
        choose = random.Random(number)
        choices, tokens = choose.choice([1, 1, 1, 2, 3]), choose.randrange(1, 40)
        answer = server.chat(n=choices, max_tokens=tokens, stream=True, stream_options={"include_usage": True})
        assert answer.status == 200, answer.body
        *chunks, last, done = answer.events
        assert done == "[DONE]"
        assert "[DONE]" not in chunks
        assert len({chunk["id"] for chunk in (*chunks, last)}) == 1
        for index in range(choices):
            own = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == index]
            text = "".join(choice["delta"].get("content") or "" for choice in own)
            prefix = str(index) if index else ""
            assert text == "".join(f"{prefix}w{place} " for place in range(tokens))
            assert [choice["finish_reason"] for choice in own if choice["finish_reason"]] == ["length"]
            assert own[-1]["finish_reason"] == "length"
        assert last["choices"] == []
        assert last["usage"]["completion_tokens"] == choices * tokens
        return str(last["id"])

    with fake_server(rows=16, max_queue=60, interval=0.0, server=QUIET) as server, ThreadPoolExecutor(8) as pool:
        started = time.monotonic()
        ids = set(pool.map(stream, range(count)))
        seconds = time.monotonic() - started
        server.wait_idle()
    assert len(ids) == count
    figure(f"{count:,} in {seconds:.0f} s: gap-free, one [DONE] each, usage equal to the sum")
