import time
from concurrent.futures import ThreadPoolExecutor

from fake_process import SLACK, FakeServer, chat_request, fake_server


def test_a_request_beyond_slots_and_queue_is_refused() -> None:
    with fake_server(rows=2, max_queue=3, interval=0.05) as server, ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: server.chat(max_tokens=10), range(12)))
        taken = [answer for answer in answers if answer.status == 200]
        refused = [answer for answer in answers if answer.status != 200]
        assert len(taken) == 5
        for answer in refused:
            assert answer.error == (429, "rate_limit_error", None, "queue_full")
            assert answer.headers["retry-after"] == "1"
        assert {answer.json["usage"]["completion_tokens"] for answer in taken} == {10}
        assert server.chat(max_tokens=1).status == 200


def test_a_full_server_reads_no_body() -> None:
    with fake_server(rows=1, max_queue=0, interval=0.05) as server, ThreadPoolExecutor(1) as pool:
        running = pool.submit(server.chat, max_tokens=40)
        server.wait_until(lambda: server.gauge("infrs_requests_running") == 1)
        head = chat_request("x" * 1_000_000).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        assert b"HTTP/1.1 429 " in server.raw(head)
        assert server.get("/health").status == 200
        assert running.result().status == 200


def test_a_request_beyond_its_timeout_gets_503() -> None:
    with fake_server(interval=0.05, server={"request_timeout": 0.3}) as server:
        answer = server.chat(max_tokens=500)
        assert answer.error == (503, "server_error", None, "request_timeout")
        streamed = server.chat(max_tokens=500, stream=True)
        assert streamed.events[-1]["error"]["code"] == "request_timeout"
        assert len(streamed.events) > 3
        assert server.wait_idle() < 1 + SLACK


def test_a_stream_continues_while_other_requests_are_refused(server: FakeServer) -> None:
    events = server.chat(stream=True, max_tokens=100).events
    assert len(events) == 103  # role, words, finish, [DONE]


def test_a_request_that_waits_too_long_for_a_slot_fails() -> None:
    with fake_server(rows=1, interval=0.05, server={"queue_timeout": 0.5}) as server, ThreadPoolExecutor(3) as pool:
        running = pool.submit(server.chat, max_tokens=40)
        server.wait_until(lambda: server.gauge("infrs_requests_running") == 1)
        started = time.monotonic()
        late = [pool.submit(server.chat, max_tokens=1, stream=stream) for stream in (False, True)]
        for answer in (one.result() for one in late):
            assert answer.error == (503, "server_error", None, "request_timeout")
            assert answer.headers["retry-after"] == "1"
        assert 0.4 < time.monotonic() - started < 1.5 + SLACK
        assert running.result().json["usage"]["completion_tokens"] == 40  # it waited for no slot
        assert server.wait_idle() < 1 + SLACK


def test_a_silent_stream_is_kept_alive() -> None:
    options = {"ping_interval": 0.2, "queue_timeout": 1.5}
    with fake_server(rows=1, interval=0.05, server=options) as server, ThreadPoolExecutor(2) as pool:
        running = pool.submit(server.chat, max_tokens=16)
        server.wait_until(lambda: server.gauge("infrs_requests_running") == 1)
        streamed = server.chat(max_tokens=2, stream=True)
        assert 2 <= streamed.body.count(b": ping\n\n") <= 5
        streamed.body = streamed.body.replace(b": ping\n\n", b"")
        assert streamed.events[-1] == "[DONE]"
        running.result()
        running = pool.submit(server.chat, max_tokens=100)
        server.wait_until(lambda: server.gauge("infrs_requests_running") == 1)
        given_up = server.chat(max_tokens=2, stream=True)  # after its headers: an event, not a status
        assert given_up.status == 200
        given_up.body = given_up.body.replace(b": ping\n\n", b"")
        assert [event["error"]["code"] for event in given_up.events] == ["request_timeout"]


def test_refusals_are_quick_at_four_times_the_capacity() -> None:
    """64 clients on 2 slots and 14 queue places. tests/reliability/test_capacity.py measures goodput."""
    with fake_server(rows=2, max_queue=14, interval=0.01) as server, ThreadPoolExecutor(64) as pool:
        seconds: list[float] = []

        def ask(_: int) -> int:
            started = time.monotonic()
            answer = server.chat(max_tokens=5)
            if answer.status == 429:
                assert answer.headers["retry-after"] == "1"
                seconds.append(time.monotonic() - started)
            return answer.status

        statuses = list(pool.map(ask, range(256)))
        assert set(statuses) == {200, 429}
        assert len(seconds) > 50
        assert server.gauge('infrs_errors_total{code="queue_full"}') == len(seconds)
        assert sorted(seconds)[len(seconds) // 2] < 1  # of 64 clients that share the server's cores
        assert server.wait_idle() < 1 + SLACK
