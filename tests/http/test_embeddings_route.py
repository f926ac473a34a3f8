"""`POST /v1/embeddings`, and a chat model and an embedding model in one server."""

from __future__ import annotations

import base64
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest
from fake_encoder import DIMENSIONS, EMBEDDING_ID, MAX_TOKENS, formula
from fake_process import MODEL, SLACK, Answer, FakeServer, fake_server
from openai import OpenAI

BAD = "invalid_request_error"
PATH = "/v1/embeddings"


@pytest.fixture(scope="module")
def both() -> Iterator[FakeServer]:
    with fake_server(embedding="beside", rows=2, max_queue=20, server={"access_log": False}) as running:
        yield running


@pytest.fixture(scope="module")
def alone() -> Iterator[FakeServer]:
    with fake_server(embedding="alone", server={"access_log": False}) as running:
        yield running


def embed(server: FakeServer, text: object, **fields: object) -> Answer:
    return server.post(PATH, **{"model": EMBEDDING_ID, "input": text, **fields})


def vectors(answer: Answer) -> list[Any]:
    assert answer.status == 200, answer.body
    return [entry["embedding"] for entry in answer.json["data"]]


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        ("sea", [b"sea"]),
        (["sea", "sky", "sea"], [b"sea", b"sky", b"sea"]),
        ([115, 101, 97], [b"sea"]),
        ([[115, 101, 97], [0]], [b"sea", b"\0"]),
        ("x" * MAX_TOKENS, [b"x" * MAX_TOKENS]),
        ("é", ["é".encode()]),
    ],
)
def test_every_form_of_input_is_embedded(both: FakeServer, given: Any, texts: list[bytes]) -> None:
    answer = embed(both, given, user="someone", encoding_format="float").json
    num_tokens = sum(map(len, texts))
    assert answer["usage"] == {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
    assert (answer["object"], answer["model"]) == ("list", EMBEDDING_ID)
    assert [(entry["object"], entry["index"]) for entry in answer["data"]] == [
        ("embedding", index) for index in range(len(texts))
    ]
    got = np.array([entry["embedding"] for entry in answer["data"]], dtype=np.float32)
    np.testing.assert_array_equal(got, [formula(text) for text in texts])  # to the bit: JSON has every digit


def test_base64_encodes_the_same_numbers(both: FakeServer) -> None:
    texts = ["a", "bc"]
    coded = [
        np.frombuffer(base64.b64decode(each), "<f4") for each in vectors(embed(both, texts, encoding_format="base64"))
    ]
    np.testing.assert_array_equal(coded, np.array(vectors(embed(both, texts)), np.float32))


@pytest.mark.parametrize("dimensions", [1, 3, DIMENSIONS])
def test_fewer_dimensions_have_length_one(both: FakeServer, dimensions: int) -> None:
    (got,) = vectors(embed(both, "sea", dimensions=dimensions))
    expected = formula(b"sea")[:dimensions]
    np.testing.assert_allclose(got, expected / np.linalg.norm(expected), rtol=1e-6)


@pytest.mark.parametrize("fields", [{"prompt_name": "query"}, {"prompt": "find: "}, {"input_type": "query"}])
def test_a_prompt_precedes_each_text(both: FakeServer, fields: dict[str, str]) -> None:
    answer = embed(both, ["sea", "sky"], **fields)
    got = np.array(vectors(answer), np.float32)
    np.testing.assert_array_equal(got, [formula(b"find: sea"), formula(b"find: sky")])
    assert answer.json["usage"]["prompt_tokens"] == 18


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"input": ""}, "input", "invalid_value"),
        ({"input": []}, "input", "empty_array"),
        ({"input": ["a", ""]}, "input[1]", "invalid_value"),
        ({"input": [[1], []]}, "input[1]", "empty_array"),
        ({"input": None}, "input", "invalid_type"),
        ({"input": 3}, "input", "invalid_type"),
        ({"input": {"text": "a"}}, "input", "invalid_type"),
        ({"input": ["a", [1]]}, "input[1]", "invalid_type"),
        ({"input": [1, "a"]}, "input[0]", "invalid_type"),
        ({"input": [True]}, "input[0]", "invalid_type"),
        ({"input": [[1, 1.5]]}, "input[0][1]", "invalid_type"),
        ({"input": ["a"] * 2049}, "input", "array_above_max_length"),
        ({"input": ["a"] * 10_000}, "input", "array_above_max_length"),
        ({"input": [-1]}, "input", "invalid_value"),
        ({"input": [256]}, "input", "invalid_value"),
        ({"input": [1 << 80]}, "input[0]", "invalid_type"),
        ({"input": [[1], [256]]}, "input[1]", "invalid_value"),
        ({"dimensions": 0}, "dimensions", "integer_below_min_value"),
        ({"dimensions": -1}, "dimensions", "integer_below_min_value"),
        ({"dimensions": DIMENSIONS + 1}, "dimensions", "integer_above_max_value"),
        ({"dimensions": "3"}, "dimensions", "invalid_type"),
        ({"encoding_format": "x"}, "encoding_format", "invalid_value"),
        ({"user": "u" * 513}, "user", "string_above_max_length"),
        ({"truncate": True}, "truncate", "unknown_parameter"),
        ({"prompt_name": "passage"}, "prompt_name", "invalid_value"),
        ({"prompt_name": "query", "task": "query"}, "task", "invalid_value"),
        ({"input": [1], "prompt": "q"}, "prompt", "invalid_value"),
        ({"model": None}, "model", "invalid_type"),
        ({"model": MODEL}, "model", "model_not_supported"),
        ({"model": "other"}, "model", "model_not_found"),
    ],
)
def test_an_invalid_request_is_refused(both: FakeServer, fields: dict[str, Any], param: str, code: str) -> None:
    status = 404 if code == "model_not_found" else 400
    assert embed(both, **{"text": "a", **fields}).error == (status, BAD, param, code)


def test_a_missing_field_is_refused(both: FakeServer) -> None:
    assert both.post(PATH, model=EMBEDDING_ID).error == (400, BAD, "input", "missing_required_parameter")
    assert both.post(PATH, input="a").error == (400, BAD, "model", "missing_required_parameter")


@pytest.mark.parametrize("text", ["x" * (MAX_TOKENS + 1), [7] * (MAX_TOKENS + 1)])
def test_a_text_that_is_too_long_is_refused(both: FakeServer, text: object) -> None:
    answer = embed(both, text)
    assert answer.error == (400, BAD, "input", "context_length_exceeded")
    assert f"{MAX_TOKENS + 1} tokens" in answer.json["error"]["message"]
    assert f"at most {MAX_TOKENS}" in answer.json["error"]["message"]
    assert embed(both, [text, text] if isinstance(text, list) else ["a", text]).error[2] in ("input[0]", "input[1]")


def test_the_sdk_reads_both_encodings(both: FakeServer) -> None:
    with OpenAI(base_url=f"http://127.0.0.1:{both.port}/v1", api_key="unused", max_retries=0) as client:
        plain = client.embeddings.create(model=EMBEDDING_ID, input=["sea", "sky"], encoding_format="float")
        coded = client.embeddings.create(model=EMBEDDING_ID, input=["sea", "sky"])  # asks for base64 by itself
        for one, other in zip(plain.data, coded.data, strict=True):
            np.testing.assert_array_equal(np.float32(one.embedding), np.float32(other.embedding))
        np.testing.assert_allclose(coded.data[1].embedding, formula(b"sky"), rtol=1e-6)
        assert coded.usage.total_tokens == 6
        assert len(client.embeddings.create(model=EMBEDDING_ID, input="sea", dimensions=2).data[0].embedding) == 2
        with pytest.raises(openai.BadRequestError) as caught:
            client.embeddings.create(model=EMBEDDING_ID, input="")
        assert caught.value.param == "input"
        assert [model.id for model in client.models.list()] == [MODEL, EMBEDDING_ID]


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}),
        ("/v1/completions", {"prompt": "hi"}),
        ("/tokenize", {"prompt": "hi"}),
    ],
)
def test_an_embedding_model_does_not_chat(
    both: FakeServer, alone: FakeServer, path: str, fields: dict[str, Any]
) -> None:
    answer = both.post(path, model=EMBEDDING_ID, **fields)
    assert answer.error == (400, BAD, "model", "model_not_supported")
    assert "/v1/embeddings" in answer.json["error"]["message"]
    answer = alone.post(path, model=EMBEDDING_ID, **fields)
    assert answer.error == (400, BAD, "model", "model_not_supported")
    assert "no chat model" in answer.json["error"]["message"]


def test_both_models_are_listed_and_described(both: FakeServer) -> None:
    assert [entry["id"] for entry in both.get("/v1/models").json["data"]] == [MODEL, EMBEDDING_ID]
    for model_id in (MODEL, EMBEDDING_ID):
        assert both.get(f"/v1/models/{model_id}").json["id"] == model_id
    assert both.get("/v1/models/nope").error == (404, BAD, "model", "model_not_found")
    props = both.get("/props").json
    (described,) = props["embedding_models"]
    assert props["model"] == MODEL
    assert (described["model"], described["dimensions"], described["pooling"]) == (EMBEDDING_ID, DIMENSIONS, "mean")
    assert both.chat(max_tokens=2).json["choices"][0]["message"]["content"] == "w0 w1 "


def test_a_server_may_serve_only_an_embedding_model(alone: FakeServer) -> None:
    assert len(vectors(embed(alone, ["a", "b"]))) == 2
    assert [entry["id"] for entry in alone.get("/v1/models").json["data"]] == [EMBEDDING_ID]
    assert alone.get("/ready").json == {"status": "ready"}
    assert "model" not in alone.get("/props").json
    assert alone.get("/metrics").status == 200


def test_embeddings_without_an_embedding_model_are_refused(server: FakeServer) -> None:
    answer = server.post(PATH, model=MODEL, input="a")
    assert answer.error == (400, BAD, "model", "model_not_supported")
    assert "`models`" in answer.json["error"]["message"]
    assert server.post(PATH, model="x", input="a").error == (404, BAD, "model", "model_not_found")


def test_tokens_and_requests_are_counted(both: FakeServer) -> None:
    before = both.gauge("infrs_prompt_tokens_total")
    embed(both, ["abc", "de"])
    assert both.gauge("infrs_prompt_tokens_total") - before == 5
    counted = f'infrs_requests_total{{route="{PATH}",status="200"}}'
    assert both.gauge(counted) >= 1


def test_a_text_that_fails_ends_its_own_request(both: FakeServer) -> None:
    assert embed(both, ["a", "boom"]).error == (500, "server_error", None, "engine_error")
    assert len(vectors(embed(both, "a"))) == 1


def test_three_failures_in_a_row_end_the_process() -> None:
    with fake_server(embedding="alone") as running:
        for _ in range(3):
            assert embed(running, "boom").status == 500
        assert running.process.wait(10 + SLACK) == 1


def in_background(server: FakeServer, text: object) -> tuple[threading.Thread, list[tuple[float, Answer]]]:
    """Send a request from a thread, and record the time of its answer."""
    answers: list[tuple[float, Answer]] = []

    def ask() -> None:
        answer = embed(server, text)
        answers.append((time.monotonic(), answer))

    thread = threading.Thread(target=ask)
    thread.start()
    return thread, answers


def num_open(server: FakeServer) -> float:
    return server.gauge("infrs_embedding_requests_open")


def test_requests_take_turns() -> None:
    """A request of many texts does not delay a request of a single text."""
    with fake_server(embedding="alone", interval=0.02, server={"access_log": False}) as running:
        thread, answers = in_background(running, ["a"] * 200)
        running.wait_until(lambda: num_open(running) == 1)
        assert len(vectors(embed(running, "b"))) == 1
        finished = time.monotonic()
        thread.join()
        ((came, answer),) = answers
        assert came > finished
        assert len(vectors(answer)) == 200


def test_overload_is_refused_immediately() -> None:
    with fake_server(embedding="alone", interval=0.02, max_queue=0, server={"access_log": False}) as running:
        thread, answers = in_background(running, ["a"] * 100)
        running.wait_until(lambda: num_open(running) == 1)
        refused = embed(running, "b")
        assert not answers
        assert refused.error == (429, "rate_limit_error", None, "queue_full")
        assert refused.headers["retry-after"]
        thread.join()
        assert answers[0][1].status == 200
        assert embed(running, "b").status == 200


def test_a_client_that_leaves_stops_the_work() -> None:
    body = json.dumps({"model": EMBEDDING_ID, "input": ["a"] * 2000}).encode()
    lines = [f"POST {PATH} HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
    with fake_server(embedding="alone", interval=0.02, server={"access_log": False}) as running:
        with socket.create_connection(("127.0.0.1", running.port)) as connection:
            connection.sendall(head.encode() + body)
            running.wait_until(lambda: num_open(running) == 1)
        assert running.wait_until(lambda: num_open(running) == 0) < SLACK  # all of it would take 40 s
        running.wait_until(lambda: running.gauge("infrs_requests_cancelled_total") == 1)


def test_a_deadline_ends_the_request() -> None:
    limits = {"access_log": False, "request_timeout": 0.3}
    with fake_server(embedding="alone", interval=0.02, server=limits) as running:
        assert embed(running, ["a"] * 1000).error == (503, "server_error", None, "request_timeout")
        running.wait_until(lambda: num_open(running) == 0)


def test_a_stopping_server_finishes_its_requests() -> None:
    with fake_server(embedding="alone", interval=0.02, server={"access_log": False}) as running:
        thread, answers = in_background(running, ["a"] * 50)
        running.wait_until(lambda: num_open(running) == 1)
        running.process.send_signal(signal.SIGTERM)
        thread.join()
        assert len(vectors(answers[0][1])) == 50
        assert running.process.wait(10 + SLACK) == 0


def test_a_stopping_server_ends_requests_beyond_the_drain_timeout() -> None:
    limits = {"access_log": False, "drain_timeout": 0.2}
    with fake_server(embedding="alone", interval=0.02, server=limits) as running:
        thread, answers = in_background(running, ["a"] * 2000)
        running.wait_until(lambda: num_open(running) == 1)
        running.process.send_signal(signal.SIGTERM)
        thread.join()
        assert answers[0][1].error == (503, "server_error", None, "server_draining")
        assert running.process.wait(10 + SLACK) == 0


def test_embeddings_are_refused_while_models_load() -> None:
    with fake_server(embedding="beside", load_seconds=3, wait_ready=False) as running:
        assert embed(running, "a").error == (503, "server_error", None, "model_loading")
