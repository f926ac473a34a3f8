import json

import pytest
from fake_process import MODEL, FakeServer, metric

GET_ROUTES = ["/health", "/ready", "/props", "/metrics", "/v1/models", f"/v1/models/{MODEL}"]
ONE_MODEL = {"id": MODEL, "object": "model", "created": 1_700_000_000, "owned_by": "infrs", "max_model_len": 512} | {
    "type": "llm",
    "aliases": [],
    "status": {"value": "loaded"},
}


@pytest.mark.parametrize("path", GET_ROUTES)
def test_head_is_get_without_a_body(server: FakeServer, path: str) -> None:
    got, head = server.get(path), server.request("HEAD", path)
    assert got.status == head.status == 200
    assert head.body == b""
    assert got.body
    assert head.headers["content-type"] == got.headers["content-type"]
    assert head.headers["content-length"].isdigit()


def test_the_model_is_listed(server: FakeServer) -> None:
    assert server.get("/v1/models").json == {"object": "list", "data": [ONE_MODEL]}
    assert server.get(f"/v1/models/{MODEL}").json == ONE_MODEL
    assert server.get("/v1/models/fake%2Fwords").json == ONE_MODEL


@pytest.mark.parametrize(
    "model_id",
    [
        "nope",
        "fake/Words",
        "fake",
        "fake/words/",
        "../../etc/passwd",
        "/abs",
        "a/b/../c",
        "C:%5Cx",
        "..%2f",
        "%00",
        "x" * 4000,
    ],
)
def test_an_unknown_model_is_refused(server: FakeServer, model_id: str) -> None:
    answer = server.get(f"/v1/models/{model_id}")
    assert answer.error == (404, "invalid_request_error", "model", "model_not_found")


def test_a_ready_server_is_healthy(server: FakeServer) -> None:
    assert server.get("/health").json == {"status": "ok"}
    assert server.get("/ready").json == {"status": "ready"}


def test_props_describe_the_model(server: FakeServer) -> None:
    props = server.get("/props").json
    assert (props["model"], props["dtype"], props["graph"]["kind"]) == (MODEL, "float32", "fused")
    assert props["engine"]["num_rows"] == 4
    assert props["engine"]["max_model_len"] == 512
    assert props["engine"]["kernels"] == ""  # the fake's
    assert props["engine"]["threads"] == 1
    assert props["settings"]["engine"]["prefill_chunk"] == 128
    assert props["versions"]["infrs"]
    assert "cache_dir" not in json.dumps(props)


@pytest.mark.parametrize(
    "path", ["/", "/nope", "/v1", "/v1/", "/V1/models", "/v1/models/../models", "/v1/models%00", "/health/"]
)
def test_an_unknown_path_is_refused(server: FakeServer, path: str) -> None:
    assert server.get(path).status == 404
    if not path.startswith("/v1/models/"):
        assert server.get(path).error == (404, "invalid_request_error", None, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "meant"),
    [
        ("GET", "/models", "/v1/models"),
        ("POST", "/chat/completions", "/v1/chat/completions"),
        ("POST", "/v1/v1/chat/completions", "/v1/chat/completions"),
        ("POST", "/v1/chat/completions/", "/v1/chat/completions"),
        ("POST", "/completion", "/v1/completions"),
        ("POST", "/v1/tokenize", "/tokenize"),
        ("GET", "/healthz", "/health"),
    ],
)
def test_a_path_close_to_a_route_gets_a_suggestion(server: FakeServer, method: str, path: str, meant: str) -> None:
    answer = server.request(method, path)
    assert answer.json["error"]["message"] == f"no such path; did you mean {meant}?"


@pytest.mark.parametrize("path", ["/", "/v1", "/api", "/" + "v1/models" * 400])
def test_a_path_unlike_any_route_gets_no_suggestion(server: FakeServer, path: str) -> None:
    assert server.get(path).json["error"]["message"] == "no such path; see /v1/models and /v1/chat/completions"


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/v2/chat", (404, "invalid_request_error", None, "not_found")),
        ("/v1/models", (405, "invalid_request_error", None, "method_not_allowed")),
        ("/v1/chat/completions", (415, "invalid_request_error", None, "unsupported_media_type")),
    ],
)
def test_a_wrong_path_is_reported_before_a_wrong_type(
    server: FakeServer, path: str, error: tuple[int, str, str | None, str]
) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert server.request("POST", path, b"{}", headers=form).error == error


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("PUT", "/v1/chat/completions", "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("DELETE", f"/v1/models/{MODEL}", "GET, HEAD"),
        ("PUT", "/v1/responses/x", "DELETE, GET, HEAD"),
        ("TRACE", "/v1/responses/x", "DELETE, GET, HEAD"),
        ("POST", "/health", "GET, HEAD"),
        ("FOO", "/health", "GET, HEAD"),
        ("TRACE", "/health", "GET, HEAD"),
        ("post", "/v1/chat/completions", "POST"),
    ],
)
def test_an_unsupported_method_is_refused(server: FakeServer, method: str, path: str, allow: str) -> None:
    answer = server.request(method, path)
    assert answer.error == (405, "invalid_request_error", None, "method_not_allowed")
    assert answer.json["error"]["message"] == f"this path does not take this method; send {answer.headers['allow']}"
    assert ", ".join(sorted(answer.headers["allow"].replace(" ", "").split(","))) == allow


def test_the_id_of_a_request_is_returned(server: FakeServer) -> None:
    def returned(given: str) -> str:
        return server.request("GET", "/health", headers={"x-request-id": given}).headers["x-request-id"]

    assert returned("abc-1.2:3") == "abc-1.2:3"
    for odd in ("a b", "x" * 129, "a\x01b", "<script>", ""):
        assert returned(odd) != odd
        assert len(returned(odd)) == 32
    assert server.get("/health").headers["x-request-id"] != server.get("/health").headers["x-request-id"]
    refused = server.request(
        "POST", "/v1/chat/completions", b"{}", {"content-type": "text/plain", "x-request-id": "mine"}
    )
    assert refused.headers["x-request-id"] == "mine"


def test_metrics_count_requests(server: FakeServer) -> None:
    def read(name: str) -> float:
        return metric(server.get("/metrics").body.decode(), name)

    chats = 'infrs_requests_total{route="/v1/chat/completions",status="200"}'
    missing = 'infrs_requests_total{route="none",status="404"}'
    server.chat(max_tokens=1)
    server.get("/nope")
    names = [
        chats,
        missing,
        "infrs_prompt_tokens_total",
        "infrs_output_tokens_total",
        "infrs_time_to_first_token_seconds_count",
        "infrs_time_between_tokens_seconds_count",
    ]
    before = [read(name) for name in names]
    server.chat("four", max_tokens=5)
    server.chat("four", max_tokens=5, stream=True)
    server.get("/nope/again")
    gained = [read(name) - old for name, old in zip(names, before, strict=True)]
    num_prompt = len("user: four")
    assert gained[:5] == [2, 1, 2 * num_prompt, 10, 2]
    assert 0 < gained[5] <= 8
    labels = [line for line in server.get("/metrics").body.decode().splitlines() if "nope" in line]
    assert labels == []
