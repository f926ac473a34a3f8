"""Streams that wait for a model to load: they are kept alive, and an error after that has the form of the stream."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from fake_process import Answer, FakeServer, chat_request, fake_server

USER = {"role": "user", "content": "hi"}
SSE, LINES = "text/event-stream; charset=utf-8", "application/x-ndjson"
FAILED = "could not be loaded; the log of the server gives the reason"
ASKED: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [USER], "max_tokens": 3},
    "/v1/completions": {"prompt": "hi", "max_tokens": 3},
    "/v1/responses": {"input": "hi", "max_output_tokens": 16},
    "/v1/messages": {"messages": [USER], "max_tokens": 3},
    "/api/chat": {"messages": [USER], "options": {"num_predict": 3}},
    "/api/generate": {"prompt": "hi", "options": {"num_predict": 3}},
}
NUM = len(ASKED)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeServer]:
    """Serve two models for each route: one that loads in half a second, and one that fails after that time."""
    folder = tmp_path_factory.mktemp("disk")
    names = [f"good-{number}" for number in range(2 * NUM)] + [f"bad-{number}" for number in range(2 * NUM)]
    for name in names:
        (folder / name).write_text("broken" if name.startswith("bad") else "1")
    options = {"demand": {name: {} for name in names}, "demand_seconds": 0.5, "disk": str(folder)}
    with fake_server(**options, server={"ping_interval": 0.1}) as running:
        yield running


def ask(server: FakeServer, path: str, model: str, **fields: Any) -> Answer:
    return server.post(path, model=model, **ASKED[path], **fields)


def is_ping(piece: bytes) -> bool:
    if piece.startswith(b"{"):
        line = json.loads(piece)
        return not line.get("done", True) and not (line.get("response") or line.get("message", {}).get("content"))
    return piece == b": ping" or piece.startswith(b"event: ping\n")


def pieces(answer: Answer, path: str) -> tuple[int, list[bytes]]:
    """Return the number of pings before the first event, and the events."""
    is_ollama = path.startswith("/api/")
    assert (answer.status, answer.headers["content-type"]) == (200, LINES if is_ollama else SSE)
    found = [piece for piece in answer.body.split(b"\n" if is_ollama else b"\n\n") if piece]
    num_pings = next(index for index, piece in enumerate(found) if not is_ping(piece))
    return num_pings, found[num_pings:]


@pytest.mark.parametrize(("number", "path"), [*enumerate(ASKED)])
def test_a_stream_is_kept_alive_while_its_model_loads(server: FakeServer, number: int, path: str) -> None:
    num_pings, events = pieces(ask(server, path, f"good-{number}", stream=True), path)
    assert num_pings >= 2
    num_more, same = pieces(ask(server, path, f"good-{number}", stream=True), path)
    assert num_more == 0
    assert len(events) == len(same) > 3


@pytest.mark.parametrize(("number", "path"), [*enumerate(ASKED)])
def test_a_load_that_fails_ends_the_stream_in_its_form(server: FakeServer, number: int, path: str) -> None:
    model = f"bad-{number}"
    num_pings, events = pieces(ask(server, path, model, stream=True), path)
    assert num_pings >= 2
    last = events[-1]
    message = f"{model} {FAILED}"
    if path.startswith("/api/"):
        assert json.loads(last) == {"error": message}
        return
    name, _, data = last.removeprefix(b"event: ").rpartition(b"data: ")
    payload = json.loads(data)
    if path == "/v1/responses":
        assert name == b"response.failed\n"
        assert payload["response"]["error"] == {"code": "server_error", "message": message}
        assert len(events) == 3
    elif path == "/v1/messages":
        assert name == b"error\n"
        assert (payload["error"]["type"], payload["error"]["message"]) == ("overloaded_error", message)
    else:
        assert (payload["error"]["code"], payload["error"]["message"]) == ("model_load_failed", message)


@pytest.mark.parametrize(("number", "path"), [*enumerate(ASKED)])
def test_an_answer_that_is_not_streamed_waits_for_its_status(server: FakeServer, number: int, path: str) -> None:
    assert ask(server, path, f"good-{NUM + number}", stream=False).headers["content-type"] == "application/json"
    answer = ask(server, path, f"bad-{NUM + number}", stream=False)
    assert answer.status == (529 if path == "/v1/messages" else 503)
    assert FAILED in answer.body.decode()


def test_an_error_before_the_first_ping_has_its_own_status(server: FakeServer) -> None:
    answer = server.post("/v1/chat/completions", model="none", messages=[USER], stream=True)
    assert answer.error == (404, "invalid_request_error", "model", "model_not_found")


def test_the_official_client_raises_the_error_of_a_load(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("broken")
    options = {"demand": {"a": {}}, "demand_seconds": 0.5, "disk": str(tmp_path)}
    with fake_server(**options, server={"ping_interval": 0.1}) as server:
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none", max_retries=0)
        stream = client.chat.completions.create(model="a", messages=[{"role": "user", "content": "hi"}], stream=True)
        with pytest.raises(openai.APIError, match=FAILED):
            list(stream)


def test_the_wait_of_a_stream_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    options = {"demand": {"a": {}}, "demand_seconds": 2.0, "disk": str(tmp_path)}
    with fake_server(**options, server={"ping_interval": 0.1, "queue_timeout": 0.5}) as server:
        _, events = pieces(ask(server, "/v1/chat/completions", "a", stream=True), "/v1/chat/completions")
        assert b"a was not loaded within the 0.5 s that this server lets a request wait" in events[-1]


def test_a_client_that_leaves_while_its_model_loads_frees_its_place(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    options = {"demand": {"a": {}}, "demand_seconds": 3.0, "disk": str(tmp_path)}
    with fake_server(**options, server={"ping_interval": 0.1}) as server:
        gone = metric_of_status(server, 499)
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
            client.sendall(chat_request("hi", stream=True, model="a"))
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
        server.wait_until(lambda: metric_of_status(server, 499) == gone + 1)


def metric_of_status(server: FakeServer, status: int) -> float:
    name = f'infrs_requests_total{{route="/v1/chat/completions",status="{status}"}}'
    lines = server.get("/metrics").body.decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))
