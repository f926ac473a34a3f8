"""`POST /v1/rerank` and `POST /v1/score` over a real socket, with a chat model in the same server."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_classifier import CLASSIFIER_ID, MAX_TOKENS, SPECIAL, logit
from fake_encoder import EMBEDDING_ID
from fake_process import MODEL, SLACK, Answer, FakeServer, fake_server

BAD = "invalid_request_error"
RERANK, SCORE = "/v1/rerank", "/v1/score"
CLIENTS = Path(__file__).parents[1] / "clients" / "rerank"
QUERY, DOCUMENTS = "abc", ["xyz", "cab", "ax", "cab"]


@pytest.fixture(scope="module")
def both() -> Iterator[FakeServer]:
    with fake_server(classifier="beside", embedding="beside", max_queue=20, server={"access_log": False}) as running:
        yield running


def rerank(server: FakeServer, path: str = RERANK, **fields: object) -> Answer:
    return server.post(path, **{"model": CLASSIFIER_ID, "query": QUERY, "documents": DOCUMENTS, **fields})


def score(server: FakeServer, first: object, second: object, **fields: object) -> Answer:
    return server.post(SCORE, **{"model": CLASSIFIER_ID, "text_1": first, "text_2": second, **fields})


def sigmoid(first: str, second: str) -> float:
    return 1 / (1 + math.exp(-logit(first.encode(), second.encode())))


def ranked(answer: Answer) -> list[tuple[int, float]]:
    assert answer.status == 200, answer.body
    return [(result["index"], result["relevance_score"]) for result in answer.json["results"]]


def scores(answer: Answer) -> list[float]:
    assert answer.status == 200, answer.body
    assert [entry["index"] for entry in answer.json["data"]] == [*range(len(answer.json["data"]))]
    return [entry["score"] for entry in answer.json["data"]]


@pytest.mark.parametrize("path", [RERANK, "/v2/rerank", "/rerank"])
def test_documents_come_by_falling_score_and_equal_ones_in_order(both: FakeServer, path: str) -> None:
    answer = rerank(both, path)
    assert ranked(answer) == [(i, pytest.approx(sigmoid(QUERY, DOCUMENTS[i]))) for i in (1, 3, 2, 0)]
    num_tokens = sum(len(QUERY) + len(text) + SPECIAL for text in DOCUMENTS)
    assert answer.json["usage"] == {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
    assert answer.json["meta"]["tokens"] == {"input_tokens": num_tokens, "output_tokens": 0}
    assert answer.json["model"] == CLASSIFIER_ID
    assert answer.json["id"] == answer.headers["x-request-id"]
    assert all(result.keys() == {"index", "relevance_score"} for result in answer.json["results"])


@pytest.mark.parametrize(
    ("fields", "indices"),
    [
        ({"top_n": 2}, [1, 3]),
        ({"top_n": 0}, [1, 3, 2, 0]),
        ({"top_n": 99}, [1, 3, 2, 0]),
        ({"documents": [{"text": "xyz"}, "cab"]}, [1, 0]),
        ({"model": "ranks"}, [1, 3, 2, 0]),
        ({"rank_fields": ["text"], "max_chunks_per_doc": 10, "user": "someone"}, [1, 3, 2, 0]),
    ],
)
def test_forms_of_requests(both: FakeServer, fields: dict[str, Any], indices: list[int]) -> None:
    assert [index for index, _ in ranked(rerank(both, **fields))] == indices


def test_documents_are_returned_on_request(both: FakeServer) -> None:
    answer = rerank(both, documents=["x", {"text": "a"}], return_documents=True)
    assert [result["document"] for result in answer.json["results"]] == [{"text": "a"}, {"text": "x"}]


def test_logits_are_returned_on_request(both: FakeServer) -> None:
    assert ranked(rerank(both, use_activation=False)) == [(1, 1.5), (3, 1.5), (2, 0.0), (0, -1.5)]
    assert scores(score(both, "abc", "cab", use_activation=False)) == [1.5]


@pytest.mark.parametrize(
    ("first", "second", "pairs"),
    [
        ("a", "ab", [("a", "ab")]),
        ("a", ["b", "a"], [("a", "b"), ("a", "a")]),
        (["a"], ["b", "a"], [("a", "b"), ("a", "a")]),
        (["a", "b"], ["b", "b"], [("a", "b"), ("b", "b")]),
    ],
)
def test_score_takes_pairs_or_one_text_with_many(
    both: FakeServer, first: object, second: object, pairs: list[tuple[str, str]]
) -> None:
    answer = score(both, first, second)
    assert scores(answer) == [pytest.approx(sigmoid(*pair)) for pair in pairs]
    assert answer.json["object"] == "list"
    assert answer.json["usage"]["total_tokens"] == sum(len("".join(pair)) + SPECIAL for pair in pairs)


@pytest.mark.parametrize("texts", ["cab", ["cab", "x"]])
def test_texts_are_classified(both: FakeServer, texts: str | list[str]) -> None:
    answer = both.post("/classify", model=CLASSIFIER_ID, input=texts)
    many = [texts] if isinstance(texts, str) else texts
    assert answer.json["data"] == [
        {"index": index, "label": "LABEL_0", "probs": [pytest.approx(sigmoid(QUERY, text))], "num_classes": 1}
        for index, text in enumerate(many)
    ]
    assert answer.json["usage"]["total_tokens"] == sum(len(text) + 2 for text in many)
    assert both.post("/classify", model=CLASSIFIER_ID, input=[]).error == (400, BAD, "input", "empty_array")
    long = {"model": CLASSIFIER_ID, "input": "a" * MAX_TOKENS}
    assert both.post("/classify", **long).error == (400, BAD, "input", "context_length_exceeded")
    cut = both.post("/classify", **long, truncate_prompt_tokens=10).json
    assert cut["usage"]["total_tokens"] == 10


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"query": ""}, "query", "invalid_value"),
        ({"query": 3}, "query", "invalid_type"),
        ({"query": None}, "query", "invalid_type"),
        ({"documents": []}, "documents", "empty_array"),
        ({"documents": "a"}, "documents", "invalid_type"),
        ({"documents": ["a", ""]}, "documents[1]", "invalid_value"),
        ({"documents": ["a", 1]}, "documents[1]", "invalid_type"),
        ({"documents": [{"text": ""}]}, "documents[0].text", "invalid_value"),
        ({"documents": [{"text": 1}]}, "documents[0].text", "invalid_type"),
        ({"documents": [{}]}, "documents[0].text", "missing_required_parameter"),
        ({"documents": [{"text": "a", "title": "b"}]}, "documents[0].title", "unknown_parameter"),
        ({"documents": ["a"] * 4097}, "documents", "array_above_max_length"),
        ({"top_n": -1}, "top_n", "integer_below_min_value"),
        ({"top_n": 1.5}, "top_n", "invalid_type"),
        ({"return_documents": "yes"}, "return_documents", "invalid_type"),
        ({"max_tokens_per_doc": 0}, "max_tokens_per_doc", "integer_below_min_value"),
        ({"truncate_prompt_tokens": -2}, "truncate_prompt_tokens", "integer_below_min_value"),
        ({"truncate_prompt_tokens": 6}, "truncate_prompt_tokens", "invalid_value"),
        ({"truncation_side": "left"}, "truncation_side", "unsupported_parameter"),
        ({"rank_fields": ["title"]}, "rank_fields", "unsupported_parameter"),
        ({"instruction": "Find poems."}, "instruction", "unsupported_parameter"),
        ({"texts": ["a"]}, "texts", "unknown_parameter"),
        ({"model": None}, "model", "invalid_type"),
        ({"model": MODEL}, "model", "model_not_supported"),
        ({"model": EMBEDDING_ID}, "model", "model_not_supported"),
        ({"model": "other"}, "model", "model_not_found"),
    ],
)
def test_an_invalid_request_is_refused_by_its_field(
    both: FakeServer, fields: dict[str, Any], param: str, code: str
) -> None:
    status = 404 if code == "model_not_found" else 400
    got = rerank(both, **fields)
    assert (got.error[0], *got.error[2:]) == (status, param, code), got.body


@pytest.mark.parametrize(
    ("first", "second", "param", "code"),
    [
        ("a", [], "text_2", "empty_array"),
        ("", "a", "text_1[0]", "invalid_value"),
        (["a", "b"], ["c"], "text_2", "invalid_value"),
        (["a", "b"], ["c", {"text": "d"}], "text_2[1]", "invalid_type"),
        (None, "a", "text_1", "invalid_type"),
    ],
)
def test_an_invalid_pair_is_refused_by_its_field(
    both: FakeServer, first: object, second: object, param: str, code: str
) -> None:
    assert score(both, first, second).error == (400, BAD, param, code)


@pytest.mark.parametrize(
    ("answer_of", "param"),
    [
        (lambda server: rerank(server, query="q" * MAX_TOKENS), "query"),
        (lambda server: rerank(server, documents=["a", "b" * (MAX_TOKENS - SPECIAL - len(QUERY) + 1)]), "documents[1]"),
        (lambda server: rerank(server, documents=["a" * 10_000]), "documents[0]"),
        (lambda server: score(server, "a", "b" * MAX_TOKENS), "text_2"),
        (lambda server: score(server, ["a", "b" * MAX_TOKENS], ["a", "b"]), "text_1[1]"),
    ],
)
def test_a_text_that_is_too_long_is_refused(both: FakeServer, answer_of: Any, param: str) -> None:
    answer = answer_of(both)
    assert answer.error == (400, BAD, param, "context_length_exceeded")
    assert f"at most {MAX_TOKENS}" in answer.json["error"]["message"]


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"truncate_prompt_tokens": -1}, MAX_TOKENS - SPECIAL - len(QUERY)),
        ({"truncate_prompt_tokens": 1000}, MAX_TOKENS - SPECIAL - len(QUERY)),
        ({"truncate_prompt_tokens": 10}, 10 - SPECIAL - len(QUERY)),
        ({"max_tokens_per_doc": 4096}, MAX_TOKENS - SPECIAL - len(QUERY)),
        ({"max_tokens_per_doc": 5}, 5),
        ({"max_tokens_per_doc": 5, "truncate_prompt_tokens": 8}, 2),
    ],
)
def test_the_end_of_a_document_is_cut_on_request(both: FakeServer, fields: dict[str, Any], kept: int) -> None:
    document = "abx" * 1000
    answer = rerank(both, documents=[document], use_activation=False, **fields)
    assert ranked(answer) == [(0, logit(QUERY.encode(), document[:kept].encode()))]


def test_the_end_of_a_query_is_cut_on_request(both: FakeServer) -> None:
    answer = rerank(both, query="ax" + "b" * 1000, documents=["ab"], max_tokens_per_query=2, use_activation=False)
    assert ranked(answer) == [(0, logit(b"ax", b"ab"))]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings"])
def test_a_classifier_answers_no_other_route(both: FakeServer, path: str) -> None:
    fields = {"messages": [{"role": "user", "content": "hi"}]} if "chat" in path else {"input": "hi"}
    answer = both.post(path, model=CLASSIFIER_ID, **fields)
    assert answer.error == (400, BAD, "model", "model_not_supported")
    assert RERANK in answer.json["error"]["message"]


def test_the_model_is_listed_described_and_counted(both: FakeServer) -> None:
    assert CLASSIFIER_ID in [entry["id"] for entry in both.get("/v1/models").json["data"]]
    (described,) = both.get("/props").json["classifiers"]
    assert (described["model"], described["labels"], described["activation"]) == (CLASSIFIER_ID, ["LABEL_0"], "sigmoid")
    before = both.gauge("infrs_prompt_tokens_total")
    num_tokens = rerank(both).json["usage"]["total_tokens"]
    assert both.gauge("infrs_prompt_tokens_total") - before == num_tokens
    assert both.gauge(f'infrs_requests_total{{route="{RERANK}",status="200"}}') >= 1


def test_hints_are_named_in_the_answer(both: FakeServer) -> None:
    assert rerank(both, max_chunks_per_doc=3).headers["x-infrs-ignored"] == "max_chunks_per_doc"


def test_a_pair_that_fails_ends_its_own_request(both: FakeServer) -> None:
    assert rerank(both, documents=["a", "boom"]).error == (500, "server_error", None, "engine_error")
    assert rerank(both).status == 200


def test_overload_is_refused_before_the_body_is_read() -> None:
    limits = {"access_log": False}
    with fake_server(classifier="alone", interval=0.05, max_queue=0, server=limits) as running:
        answers: list[Answer] = []
        thread = threading.Thread(target=lambda: answers.append(rerank(running, documents=["a"] * 60)))
        thread.start()
        running.wait_until(lambda: running.gauge("infrs_classifier_requests_open") == 1)
        refused = rerank(running)
        assert refused.error == (429, "rate_limit_error", None, "queue_full")
        assert refused.headers["retry-after"]
        thread.join(60 + SLACK)
        assert len(ranked(answers[0])) == 60


def test_a_deadline_ends_the_request() -> None:
    limits = {"access_log": False, "request_timeout": 0.3}
    with fake_server(classifier="alone", interval=0.02, server=limits) as running:
        assert rerank(running, documents=["a"] * 1000).error == (503, "server_error", None, "request_timeout")
        running.wait_until(lambda: running.gauge("infrs_classifier_requests_open") == 0)


@pytest.mark.parametrize("file", sorted(CLIENTS.glob("*.json")), ids=lambda file: file.stem)
def test_a_recorded_request_of_a_client_is_answered(both: FakeServer, file: Path) -> None:
    client = json.loads(file.read_text(encoding="utf-8"))
    assert {"client", "version", "recorded", "exchanges"} == client.keys()
    for exchange in client["exchanges"]:
        assert "authorization" not in exchange["headers"]
        body = json.dumps({**exchange["body"], "model": CLASSIFIER_ID}).encode()
        answer = both.request(exchange["method"], exchange["path"], body, exchange["headers"])
        assert ranked(answer)[0] == (exchange["first"], pytest.approx(exchange["score"]))
