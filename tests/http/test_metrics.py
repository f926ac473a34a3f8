"""The metrics and the log that an operator reads."""

import json
import re
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fake_process import chat_request, fake_server, metric

FAULTY = Path(__file__).parent / "faulty_server.py"

NAMES = [
    "infrs_requests_running",
    "infrs_requests_waiting",
    "infrs_preemptions_total",
    "infrs_draft_tokens_total",
    "infrs_accepted_tokens_total",
    "infrs_model_draft_tokens_total",
    "infrs_model_accepted_tokens_total",
    "infrs_guessed_tokens_total",
    "infrs_confirmed_tokens_total",
    "infrs_kv_used_ratio",
    "infrs_prompt_tokens_total",
    "infrs_prompt_tokens_reused_total",
    "infrs_output_tokens_total",
    "infrs_requests_cancelled_total",
    "infrs_requests_drained_total",
    "infrs_connections_refused_total",
    "infrs_invariant_violations_total",
    "infrs_time_to_first_token_seconds_count",
    "infrs_time_between_tokens_seconds_count",
    "infrs_queue_wait_seconds_count",
    "infrs_step_seconds_count",
    "infrs_batch_size_count",
    "infrs_event_loop_lag_seconds_count",
    "process_resident_memory_bytes",
    "process_cpu_seconds_total",
    "process_open_fds",
]


def test_the_engine_exports_its_metrics() -> None:
    with fake_server(engine="synthetic", rows=2, max_queue=8) as server:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: server.chat("the same long beginning", max_tokens=8, ignore_eos=True), range(6)))
        server.wait_until(lambda: server.gauge("infrs_event_loop_lag_seconds_count") > 0)
        text = server.get("/metrics").body.decode()
    read = {name: metric(text, name) for name in NAMES}
    assert read["infrs_queue_wait_seconds_count"] == 6
    assert read["infrs_guessed_tokens_total"] == read["infrs_draft_tokens_total"]  # the deprecated name
    assert read["infrs_confirmed_tokens_total"] == read["infrs_accepted_tokens_total"]
    assert read["infrs_output_tokens_total"] == 48
    assert read["infrs_step_seconds_count"] == read["infrs_batch_size_count"] >= 24
    assert metric(text, "infrs_batch_size_sum") <= 2 * read["infrs_step_seconds_count"]
    assert 0 < read["infrs_prompt_tokens_reused_total"] < read["infrs_prompt_tokens_total"]
    assert read["infrs_invariant_violations_total"] == read["infrs_requests_running"] == 0
    assert read["process_resident_memory_bytes"] > 1 << 24


def test_cache_usage_is_measured() -> None:
    with fake_server(engine="synthetic", rows=1, max_queue=2) as server:
        assert server.gauge("infrs_kv_used_ratio") == 0
        seen = []
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(lambda: [server.chat(max_tokens=60, ignore_eos=True) for _ in range(20)])
            while not running.done():
                seen.append(server.gauge("infrs_kv_used_ratio"))
        assert 0 < max(seen) <= 1


def test_cancelled_and_drained_requests_are_counted() -> None:
    with fake_server(interval=0.02) as server, ThreadPoolExecutor(1) as pool:
        for stream in (False, True):
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                connection.sendall(chat_request(stream=stream))
                server.wait_until(lambda: server.gauge("infrs_requests_running") == 1)
            server.wait_until(lambda: server.gauge("infrs_requests_running") == 0)
        server.wait_until(lambda: server.gauge("infrs_requests_cancelled_total") == 2)
        last = pool.submit(server.chat, max_tokens=60)
        server.wait_until(lambda: server.gauge("infrs_requests_running") == 1)
        server.process.terminate()
        server.wait_until(lambda: server.get("/ready").status == 503)
        assert server.gauge('infrs_errors_total{code="server_draining"}') >= 1
        assert last.result().status == 200
        assert server.process.wait(10) == 0


@pytest.mark.nightly("series")
def test_models_paths_and_ids_of_requests_add_no_series(full: bool, figure: Callable[[str], None]) -> None:
    number = 5000 if full else 100
    with fake_server(server={"access_log": False}) as server:
        server.get("/metrics")
        count = []
        for round_ in range(2):
            for i in range(number):
                server.chat(model=f"model-{round_}-{i}")
                server.request("GET", f"/{round_}/{i}", headers={"x-request-id": f"id-{round_}-{i}"})
            count.append(len(server.get("/metrics").body.splitlines()))
        assert count[0] == count[1]
        series = [line for line in server.get("/metrics").body.splitlines() if b"{" in line and b"_bucket" not in line]
        assert len(series) <= 100
    figure(f"{2 * number:,} model names, paths and request ids: {len(series)} label sets, none of them new")


def test_the_log_can_be_json() -> None:
    with fake_server(script=FAULTY, server={"log_format": "json"}) as server:
        server.request("GET", "/health", headers={"x-request-id": "mine-1"})
        server.request("GET", "/%1b%0a%e2%80%ae?canary=1")
        server.chat("canary", **{"top_q" * 100: 1})
        server.chat("unreadable canary")
        server.process.terminate()
        log = server.output()
    assert "canary" not in log
    assert not re.search(r"[^\x20-\x7e\n]", log)
    lines = [json.loads(line) for line in log.splitlines()]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    access = [line for line in lines if line["logger"] == "infrs.access"]
    mine = next(line for line in access if line["request_id"] == "mine-1")
    assert (mine["method"], mine["path"], mine["status"]) == ("GET", "/health", 200)
    assert 0 < mine["seconds"] < 5
    assert [line["status"] for line in access] == [200, 404, 400, 500]
    reasons = [(line.get("code"), line.get("param")) for line in access]
    assert reasons[:2] == [(None, None), ("not_found", None)]
    assert reasons[2] == ("unknown_parameter", ("top_q" * 100)[:100])
    assert access[2]["message"].endswith(f" {access[2]['request_id']} unknown_parameter {reasons[2][1]}")
    failed = next(line for line in lines if line["level"] == "error")
    assert "Traceback" in failed["traceback"]


def test_the_log_has_the_token_counts_and_rates_of_each_request() -> None:
    with fake_server(server={"log_format": "json"}, interval=0.02) as server:
        for stream in (False, True):
            server.chat("one two three four five six", stream=stream, max_tokens=6)
        server.chat("one", max_tokens=1)
        server.process.terminate()
        lines = [json.loads(line) for line in server.output().splitlines()]
    *several, one = [line for line in lines if line["logger"] == "infrs.access"]
    for line in several:
        assert line["completion_tokens"] == 6
        assert line["prompt_tokens"] > 0
        assert line["cached_tokens"] == 0
        assert 0 < line["first_token_seconds"] < line["seconds"]
        after_the_first = line["seconds"] - line["first_token_seconds"]
        assert line["tokens_per_second"] >= 5 / after_the_first
        assert re.search(
            r"\d+ tokens in \(0 cached\), 6 out, the first after [\d.]+ ms, then [\d.]+ a second$", line["message"]
        )
    assert "tokens_per_second" not in one
    assert re.search(r" 1 out, the first after [\d.]+ ms$", one["message"])


def test_log_level_limits_the_log() -> None:
    with fake_server(server={"log_level": "warning"}) as server:
        server.get("/health")
        server.process.terminate()
        assert server.output() == ""
