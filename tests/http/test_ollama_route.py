"""Ollama's routes as bytes: lines, errors, names of models, and what the server does around them."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from fake_encoder import EMBEDDING_ID
from fake_process import MODEL, Answer, FakeServer, chat_request, fake_server

KEY = "a-key-of-this-server"
USER = {"role": "user", "content": "please stop"}
QUIET = {"access_log": False}
ASKED: dict[str, dict[str, Any]] = {
    "/api/chat": {"model": MODEL, "messages": [USER]},
    "/api/generate": {"model": MODEL, "prompt": "please stop"},
}
EMBEDDED: dict[str, dict[str, Any]] = {
    "/api/embed": {"model": EMBEDDING_ID, "input": "hi"},
    "/api/embeddings": {"model": EMBEDDING_ID, "prompt": "hi"},
}
BODIES = {**ASKED, **EMBEDDED, "/api/show": {"model": MODEL}}


@pytest.fixture(scope="module")
def both() -> Iterator[FakeServer]:
    with fake_server(embedding="beside", rows=2, max_queue=20, server=QUIET) as running:
        yield running


@pytest.fixture(scope="module")
def real() -> Iterator[FakeServer]:
    with fake_server(engine="synthetic", rows=2, server=QUIET) as running:
        yield running


def lines(answer: Answer) -> list[dict[str, Any]]:
    assert (answer.status, answer.headers["content-type"]) == (200, "application/x-ndjson")
    assert answer.body.endswith(b"\n")
    return [json.loads(line) for line in answer.body.splitlines()]


def fault(answer: Answer) -> tuple[int, str]:
    """Return the status and the message of an error in Ollama's shape."""
    received = answer.json
    assert received.keys() == {"error"}
    assert answer.headers["x-request-id"]
    return answer.status, received["error"]


@pytest.mark.parametrize("path", ASKED)
def test_a_stream_of_lines_has_the_text_of_the_whole_answer(both: FakeServer, path: str) -> None:
    def text(part: dict[str, Any]) -> str:
        shown: str = part["message"]["content"] if path == "/api/chat" else part["response"]
        return shown

    whole = both.post(path, **ASKED[path], stream=False).json
    *parts, last = lines(both.post(path, **ASKED[path]))
    assert "".join(map(text, [*parts, last])) == text(whole) != ""
    assert {part["done"] for part in parts} == {False}
    for end in (last, whole):
        assert (end["done"], end["done_reason"], end["eval_count"], end["model"]) == (True, "stop", 4, MODEL)
        assert 0 <= end["prompt_eval_duration"] <= end["total_duration"]
        assert 0 <= end["eval_duration"] <= end["total_duration"]


@pytest.mark.parametrize("options", [{}, {"temperature": 0.9, "seed": 5}, {"seed": 6, "stop": ["e"], "num_predict": 9}])
def test_answers_are_those_of_the_openai_routes(real: FakeServer, options: dict[str, Any]) -> None:
    options = {"num_predict": 24, "seed": 1, **options}
    same = {("max_tokens" if name == "num_predict" else name): value for name, value in options.items()}
    user = {"role": "user", "content": "hi"}
    chat = real.post("/v1/chat/completions", model=MODEL, messages=[user], **same).json["choices"][0]
    ours = real.post("/api/chat", model=MODEL, messages=[user], options=options, stream=False).json
    assert (ours["message"]["content"], ours["done_reason"]) == (chat["message"]["content"], chat["finish_reason"])
    prompt = real.post("/api/generate", model=MODEL, prompt="hi", options=options, stream=False).json
    assert prompt["response"] == ours["message"]["content"]
    plain = real.post("/v1/completions", model=MODEL, prompt="hi", **same).json["choices"][0]["text"]
    raw = real.post("/api/generate", model=MODEL, prompt="hi", raw=True, options=options, stream=False).json
    assert raw["response"] == plain
    filled = {"model": MODEL, "prompt": "a", "suffix": "b"}
    infill = real.post("/v1/completions", **filled, **same).json["choices"][0]["text"]
    assert real.post("/api/generate", **filled, options=options, stream=False).json["response"] == infill


def test_log_probabilities_are_those_of_a_chat_completion(real: FakeServer) -> None:
    asked = {"model": MODEL, "messages": [USER], "logprobs": True, "top_logprobs": 2}
    chat = real.post("/v1/chat/completions", **asked, max_tokens=6, seed=1).json["choices"][0]["logprobs"]["content"]
    options = {"num_predict": 6, "seed": 1}
    assert real.post("/api/chat", **asked, options=options, stream=False).json["logprobs"] == chat
    parts = lines(real.post("/api/chat", **asked, options=options))
    assert [entry for part in parts for entry in part.get("logprobs", ())] == chat


def test_an_answer_with_a_format_matches_it(real: FakeServer) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}
    for path, asked in ASKED.items():
        answer = real.post(path, **asked, format=schema, stream=False, options={"seed": 1}).json
        text = answer["message"]["content"] if path == "/api/chat" else answer["response"]
        assert json.loads(text) in ({"a": 1}, {"a": 2})


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
def test_a_request_without_a_prompt_reports_that_the_model_is_loaded(both: FakeServer, path: str) -> None:
    answer = both.post(path, model=MODEL, user="u")
    assert answer.headers["x-infrs-ignored"] == "user"
    assert (answer.json["done"], answer.json["done_reason"]) == (True, "load")
    assert fault(both.post(path, model="other"))[0] == 404


@pytest.mark.parametrize("path", BODIES)
def test_a_model_has_its_id_with_and_without_a_tag(both: FakeServer, path: str) -> None:
    name = BODIES[path]["model"]
    assert both.post(path, **BODIES[path] | {"model": f"{name}:latest"}).status == 200
    for other in (f"{name}:7b", "it's", ":latest"):
        status, message = fault(both.post(path, **BODIES[path] | {"model": other}))
        assert status == 404
        assert message.startswith(f"model '{other}' not found; this server serves ")


def test_the_name_of_a_model_is_the_one_that_the_client_sent(both: FakeServer) -> None:
    name = f"{MODEL}:latest"
    assert {part["model"] for part in lines(both.post("/api/chat", model=name, messages=[USER]))} == {name}


@pytest.mark.parametrize(("path", "model"), [("/api/chat", EMBEDDING_ID), ("/api/embed", MODEL)])
def test_a_model_of_another_kind_is_refused(both: FakeServer, path: str, model: str) -> None:
    assert fault(both.post(path, **BODIES[path] | {"model": model}))[0] == 400


@pytest.mark.parametrize("path", BODIES)
def test_an_answer_names_the_hints_of_its_request(both: FakeServer, path: str) -> None:
    assert "x-infrs-ignored" not in both.post(path, **BODIES[path]).headers
    answer = both.post(path, **BODIES[path], user="u")
    assert (answer.status, answer.headers["x-infrs-ignored"]) == (200, "user")


def test_vectors_are_those_of_the_openai_route(both: FakeServer) -> None:
    texts = ["hi", "Köln"]
    expected = [
        entry["embedding"] for entry in both.post("/v1/embeddings", model=EMBEDDING_ID, input=texts).json["data"]
    ]
    answer = both.post("/api/embed", model=EMBEDDING_ID, input=texts).json
    assert (answer["embeddings"], answer["model"]) == (expected, EMBEDDING_ID)
    assert answer["prompt_eval_count"] > 0
    assert both.post("/api/embeddings", model=EMBEDDING_ID, prompt="Köln").json == {"embedding": expected[1]}
    short = both.post("/v1/embeddings", model=EMBEDDING_ID, input="hi", dimensions=2).json["data"][0]["embedding"]
    assert both.post("/api/embed", model=EMBEDDING_ID, input="hi", dimensions=2).json["embeddings"] == [short]
    for empty in ("", []):
        assert both.post("/api/embed", model=EMBEDDING_ID, input=empty).json["embeddings"] == []


def test_descriptions_agree(both: FakeServer) -> None:
    listed, running = (both.get(path).json["models"] for path in ("/api/tags", "/api/ps"))
    assert [model["name"] for model in listed] == [f"{MODEL}:latest", f"{EMBEDDING_ID}:latest"]
    for model, state in zip(listed, running, strict=True):
        shown = both.post("/api/show", model=model["model"], verbose=False).json
        assert shown["details"] == model["details"] == state["details"]
        assert model["digest"] == state["digest"]
        family = shown["model_info"]["general.architecture"]
        assert shown["model_info"][f"{family}.context_length"] == state["context_length"]
    assert both.post("/api/show", name=MODEL).json["capabilities"] == ["completion", "tools"]
    assert both.post("/api/show", model=EMBEDDING_ID).json["capabilities"] == ["embedding"]
    assert both.get("/api/version").json["version"].count(".") == 2


def test_the_body_may_come_as_curl_sends_it(both: FakeServer) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    body = json.dumps({**ASKED["/api/chat"], "stream": False}).encode()
    assert both.request("POST", "/api/chat", body, form).json["done"] is True
    assert fault(both.request("POST", "/api/chat", body, {"content-type": "text/plain"}))[0] == 415
    page = {**form, "origin": "https://example.com"}
    assert fault(both.request("POST", "/api/chat", body, page))[0] == 403


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("POST", "/api/pull", 404, "downloads no models; run `infrs pull`"),
        ("POST", "/api/push", 404, "publishes no models; copy the folder"),
        ("POST", "/api/create", 404, "makes no models; run `infrs-export`"),
        ("POST", "/api/copy", 404, "copies no models; set `model_alias`"),
        ("DELETE", "/api/delete", 404, "deletes no models; take it out of `models`"),
        ("GET", "/api/chat", 405, "send POST"),
        ("POST", "/api/tag", 404, "did you mean /api/tags?"),
        ("POST", "/api/chat", 400, "model"),
    ],
)
def test_an_error_has_ollamas_shape(both: FakeServer, method: str, path: str, status: int, words: str) -> None:
    found, message = fault(both.request(method, path, b"{}"))
    assert found == status
    assert words in message


@pytest.mark.parametrize("path", ASKED)
def test_an_answer_that_fails_ends_with_an_error(both: FakeServer, path: str) -> None:
    fails = {"messages": [{**USER, "content": "boom"}]} if path == "/api/chat" else {"prompt": "boom"}
    *parts, last = lines(both.post(path, **ASKED[path] | fails))
    assert last == {"error": "the server failed while it worked on this request; see its log"}
    assert not any(part["done"] for part in parts)
    assert fault(both.post(path, **ASKED[path] | fails, stream=False))[0] == 500


def test_a_full_queue_is_a_busy_server() -> None:
    with (
        fake_server(rows=1, max_queue=0, interval=0.05, server=QUIET) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=5) as first,
    ):
        first.sendall(chat_request("long", stream=True))
        first.recv(1)
        status, message = fault(server.post("/api/chat", **ASKED["/api/chat"]))
    assert (status, message.startswith("server busy, please try again: ")) == (503, True)


def test_silence_is_broken_by_lines_without_text() -> None:
    with fake_server(interval=0.4, server={**QUIET, "ping_interval": 0.1}) as server:
        parts = lines(server.post("/api/chat", **ASKED["/api/chat"]))
    texts = [part["message"]["content"] for part in parts]
    assert [text for text in texts if text] == ["w0 ", "w1 ", "w2 ", "w3 "]
    assert len(texts) > 6


def test_a_server_with_keys_wants_one() -> None:
    with fake_server(keys=KEY, server=QUIET) as guarded:
        assert fault(guarded.get("/api/tags"))[0] == 401
        assert guarded.request("GET", "/api/tags", headers={"authorization": f"Bearer {KEY}"}).status == 200


@pytest.mark.parametrize("web", [True, False])
def test_a_server_is_found_by_a_probe(web: bool) -> None:
    with fake_server(keys=KEY, server={**QUIET, "web": web}) as server:
        answer = server.request("HEAD", "/", headers={"accept": "application/json"})
        assert (answer.status, answer.body) == (200, b"")


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeServer]:
    folder = tmp_path_factory.mktemp("disk")
    demand: dict[str, dict[str, Any]] = {"a": {}, "b": {"keep_alive": 600.0}, "pinned": {"is_pinned": True}}
    for name in demand:
        (folder / name).write_text("1")
    with fake_server(demand=demand, disk=str(folder), server=QUIET) as running:
        yield running


def running(server: FakeServer) -> dict[str, str]:
    """Return when each loaded model is unloaded, by its name."""
    return {model["name"]: model["expires_at"] for model in server.get("/api/ps").json["models"]}


def test_models_are_loaded_kept_and_unloaded_as_a_request_says(several: FakeServer) -> None:
    names = [f"{name}:latest" for name in (MODEL, "a", "b", "pinned")]
    assert [model["name"] for model in several.get("/api/tags").json["models"]] == names
    shown = several.post("/api/show", model="a").json
    assert (shown["capabilities"], shown["model_info"]["fake.context_length"]) == (["completion", "tools"], 512)
    assert running(several).keys() == {f"{MODEL}:latest"}

    asked = {"model": "a", "prompt": "please stop", "stream": False}
    assert several.post("/api/generate", model="a", keep_alive=-1).json["done_reason"] == "load"
    assert running(several)["a:latest"].startswith("2318-")
    assert several.post("/api/generate", **asked, keep_alive="10m").json["done"]
    assert not running(several)["a:latest"].startswith("2318-")
    assert several.post("/api/generate", **asked).json["done"]
    assert "a:latest" in running(several)  # the time of the latest request that has one
    unloaded = several.post("/api/generate", model="a", keep_alive=0).json
    assert (unloaded["done"], unloaded["done_reason"], unloaded["response"]) == (True, "unload", "")
    assert "a:latest" not in running(several)
    assert several.post("/api/chat", model="a", keep_alive=0).json["done_reason"] == "unload"  # and is not loaded
    assert several.post("/api/generate", **asked).json["done"]
    assert running(several)["a:latest"].startswith("2318-")  # that of the settings again

    assert several.post("/api/generate", **asked, keep_alive="0s").json["done"]
    several.wait_until(lambda: "a:latest" not in running(several))
    assert several.post("/api/chat", model="pinned", keep_alive="1h").json["done_reason"] == "load"
    status, message = fault(several.post("/api/generate", model="pinned", keep_alive=0))
    assert (status, "POST /v1/models/unload unloads it" in message) == (400, True)
    assert running(several)["pinned:latest"].startswith("2318-")


@pytest.mark.parametrize("wrong", ["soon", "5 m", "5d", True, [], "1e3", "m5"])
def test_a_keep_alive_that_is_no_duration_is_refused(several: FakeServer, wrong: object) -> None:
    status, message = fault(several.post("/api/generate", model="a", keep_alive=wrong))
    assert (status, "keep_alive" in message) == (400, True)
