from concurrent.futures import ThreadPoolExecutor

from fake_process import FakeServer, chat_request, fake_server


def test_beyond_slots_and_queue() -> None:
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


def test_a_request_that_takes_too_long() -> None:
    with fake_server(interval=0.05, server={"request_timeout": 0.3}) as server:
        answer = server.chat(max_tokens=500)
        assert answer.error == (503, "server_error", None, "request_timeout")
        streamed = server.chat(max_tokens=500, stream=True)
        assert streamed.events[-1]["error"]["code"] == "request_timeout"
        assert len(streamed.events) > 3
        assert server.wait_idle() < 1


def test_a_stream_reads_on_while_others_are_refused(server: FakeServer) -> None:
    events = server.chat(stream=True, max_tokens=100).events
    assert len(events) == 103  # role, words, finish, [DONE]
