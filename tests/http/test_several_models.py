"""Several chat models behind one server: they load on demand, make room, expire and are replaced."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from fake_process import MODEL, Answer, FakeServer, fake_server, metric

BAD = "invalid_request_error"


@contextmanager
def several(folder: Path, demand: dict[str, dict[str, Any]], **options: Any) -> Iterator[FakeServer]:
    for name in demand:
        (folder / name).write_text("1")
    with fake_server(demand=demand, disk=str(folder), **options) as server:
        yield server


def states(server: FakeServer) -> dict[str, str]:
    return {each["id"]: each["status"]["value"] for each in server.get("/v1/models").json["data"]}


def ask(server: FakeServer, model: str, **fields: Any) -> Answer:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3} | fields
    return server.request("POST", "/v1/chat/completions", json.dumps(body).encode())


def test_a_request_loads_a_model_and_others_share_the_load(tmp_path: Path) -> None:
    with several(tmp_path, {"a": {"aliases": ["x"]}, "b": {}}, demand_seconds=0.3, rows=8) as server:
        assert states(server) == {MODEL: "loaded", "a": "unloaded", "b": "unloaded"}
        assert server.get("/ready").status == 200
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda name: ask(server, name, stream=name == "x"), ["a", "a", "x", "b"] * 2))
        assert [answer.status for answer in answers] == [200] * 8
        assert states(server) == {MODEL: "loaded", "a": "loaded", "b": "loaded"}
        assert answers[0].json["model"] == "a"
        text = server.get("/metrics").body.decode()
        assert metric(text, 'infrs_output_tokens_total{model="a"}') == 18
        assert metric(text, 'infrs_output_tokens_total{model="b"}') == 6


def test_the_official_client_lists_and_uses_the_models(tmp_path: Path) -> None:
    with several(tmp_path, {"a": {}}) as server:
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none", max_retries=0)
        assert [(model.id, model.object) for model in client.models.list()] == [(MODEL, "model"), ("a", "model")]
        assert client.models.retrieve("a").id == "a"
        answer = client.chat.completions.create(model="a", messages=[{"role": "user", "content": "hi"}], max_tokens=2)
        assert answer.choices[0].message.content == "w0 w1 "


def test_requests_without_a_model_or_for_an_unknown_one(tmp_path: Path) -> None:
    with several(tmp_path, {"a": {}}) as server:
        answer = server.post("/tokenize", prompt="hi")
        assert answer.error == (400, BAD, "model", "invalid_value")
        assert answer.json["error"]["message"] == f"model: this server has several chat models; name one of {MODEL}, a"
        answer = ask(server, "z")
        assert answer.error == (404, BAD, "model", "model_not_found")
        assert f"this server serves {MODEL}, a" in answer.json["error"]["message"]
        for path in ("load", "unload"):
            assert server.post(f"/v1/models/{path}", model="z").error == (404, BAD, "model", "model_not_found")


def test_models_are_loaded_and_unloaded_by_command(tmp_path: Path) -> None:
    with several(tmp_path, {"a": {}}) as server:
        answer = server.post("/v1/models/load", model="a")
        assert (answer.status, answer.json["success"], answer.json["status"]) == (200, True, {"value": "loaded"})
        answer = server.post("/v1/models/unload", model="a")
        assert (answer.status, answer.json["success"], answer.json["status"]) == (200, True, {"value": "unloaded"})
        assert server.post("/v1/models/unload", model="a").status == 200
        assert 'model="a"' not in server.get("/metrics").body.decode()
        assert ask(server, "a").status == 200


def test_commands_need_the_key(tmp_path: Path) -> None:
    with several(tmp_path, {"a": {}}, keys="k" * 32) as server:
        for path in ("load", "unload"):
            assert server.post(f"/v1/models/{path}", model="a").status == 401


def test_a_failed_load_is_reported_and_tried_again(tmp_path: Path) -> None:
    with several(tmp_path, {"a": {}}) as server:
        (tmp_path / "a").write_text("broken")
        answer = ask(server, "a", stream=True)
        assert answer.error == (503, "server_error", None, "model_load_failed")
        message = "a could not be loaded; the log of the server gives the reason"
        assert answer.json["error"]["message"] == message
        assert server.get("/v1/models/a").json["status"] == {"value": "failed", "error": message}
        assert server.get("/ready").status == 200
        (tmp_path / "a").write_text("2")
        assert ask(server, "a").status == 200
        assert states(server)["a"] == "loaded"


def start_stream(server: FakeServer) -> tuple[list[Answer], threading.Thread]:
    """Start a stream of model a, and wait until it runs. Return a list that gets its answer, and the thread."""
    streams: list[Answer] = []
    thread = threading.Thread(target=lambda: streams.append(ask(server, "a", stream=True, max_tokens=100)), daemon=True)
    thread.start()
    server.wait_until(lambda: states(server)["a"] == "loaded")
    server.wait_until(lambda: server.gauge('infrs_requests_running{model="a"}') == 1)
    return streams, thread


def test_a_budget_unloads_the_least_recently_used_model_and_never_one_that_streams(tmp_path: Path) -> None:
    options = {"budget": 20, "interval": 0.02, "demand_seconds": 0.1}
    with several(tmp_path, {"a": {}, "b": {}, "c": {}}, **options) as server:
        streams, thread = start_stream(server)
        assert ask(server, "b").status == 200
        assert ask(server, "c").status == 200  # in the place of b
        assert states(server) == {MODEL: "loaded", "a": "loaded", "b": "unloaded", "c": "loaded"}
        thread.join(20)
        assert streams[0].events[-1] == "[DONE]"


def test_an_idle_model_is_unloaded_after_keep_alive(tmp_path: Path) -> None:
    with several(tmp_path, {"a": {"keep_alive": 0.0}}) as server:
        assert ask(server, "a").status == 200
        server.wait_until(lambda: states(server)["a"] == "unloaded")
        assert ask(server, "a").status == 200


def test_a_new_bundle_replaces_a_model_without_ending_its_streams(tmp_path: Path) -> None:
    with several(tmp_path, {"a": {}}, interval=0.02) as server:
        streams, thread = start_stream(server)
        (tmp_path / "a").write_text("2")
        assert server.post("/v1/models/load", model="a").status == 200
        assert ask(server, "a").json["system_fingerprint"] == "fp_2"
        thread.join(20)
        events = streams[0].events
        assert events[-1] == "[DONE]"
        assert {event["system_fingerprint"] for event in events[:-1]} == {"fp_1"}


def test_one_of_several_models_that_fails_does_not_end_the_others(tmp_path: Path) -> None:
    with several(tmp_path, {"a": {}, "b": {}}) as server:
        assert ask(server, "b").status == 200
        assert ask(server, "a", messages=[{"role": "user", "content": "die"}]).status == 500
        server.wait_until(lambda: states(server)["a"] == "failed")
        assert server.get("/v1/models/a").json["status"]["error"]
        assert ask(server, "b").status == 200
        assert ask(server, "a").status == 200


@pytest.mark.parametrize("stream", [True, False])
def test_a_server_that_stops_answers_requests_that_wait_for_a_model(tmp_path: Path, stream: bool) -> None:
    with several(tmp_path, {"a": {}}, demand_seconds=0.5) as server:
        answers: list[Answer] = []
        thread = threading.Thread(target=lambda: answers.append(ask(server, "a", stream=stream)), daemon=True)
        thread.start()
        server.wait_until(lambda: states(server)["a"] == "loading")
        server.process.terminate()
        thread.join(20)
        assert answers[0].status == 200
        assert server.process.wait(20) == 0
