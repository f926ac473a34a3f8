"""`/v1/messages` as bytes: its events, its errors, its key and its headers."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from fake_process import JSON, MODEL, Answer, FakeServer, fake_server

KEY = "a-key-of-this-server"
USER = {"role": "user", "content": "please stop"}
QUIET = {"access_log": False}


def body(**fields: Any) -> bytes:
    return json.dumps({"model": MODEL, "max_tokens": 9, "messages": [USER]} | fields).encode()


def ask(server: FakeServer, **fields: Any) -> Answer:
    return server.request("POST", "/v1/messages", body(**fields))


def events(answer: Answer) -> list[tuple[str, Any]]:
    """Return the name and the data of each event of a stream."""
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    frames = answer.body.decode().split("\n\n")
    assert frames.pop() == ""
    found = []
    for frame in frames:
        name, data = frame.split("\n")
        assert (name[:7], data[:6]) == ("event: ", "data: ")
        found.append((name[7:], json.loads(data[6:])))
    assert all(data["type"] == name for name, data in found)
    return found


def fault(answer: Answer) -> tuple[int, str, str | None, str]:
    """Return (status, type, param, code) of an error in Anthropic's shape."""
    received = answer.json
    assert received.keys() == {"type", "error"}
    assert received["type"] == "error"
    error = received["error"]
    assert error.keys() == {"type", "message", "details"}
    assert 0 < len(error["message"]) <= 500
    assert answer.headers["request-id"] == answer.headers["x-request-id"]
    return answer.status, error["type"], error["details"]["param"], error["details"]["error_code"]


@pytest.fixture(scope="module")
def guarded() -> Iterator[FakeServer]:
    with fake_server(keys=KEY, server=QUIET) as running:
        yield running


@pytest.fixture(scope="module")
def real() -> Iterator[FakeServer]:
    with fake_server(engine="synthetic", rows=2, server=QUIET) as running:
        yield running


def test_an_answer_has_the_fields_of_a_message(server: FakeServer) -> None:
    answer = ask(server)
    received = answer.json
    assert received.pop("id").startswith("msg_")
    assert received == {
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [{"type": "text", "text": "w0 w1 w2 w3 "}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": len("user: please stop"),
            "output_tokens": 4,
            "output_tokens_details": {"thinking_tokens": 0},
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "service_tier": "standard",
        },
    }


def test_a_stream_has_the_events_of_a_message(server: FakeServer) -> None:
    found = events(ask(server, stream=True))
    assert [name for name, _ in found] == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 4,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    start = found[0][1]["message"]
    assert (start["content"], start["stop_reason"], start["usage"]["output_tokens"]) == ([], None, 1)
    assert found[1][1] == {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "text", "text": ""},
    }
    assert found[2][1]["delta"] == {"type": "text_delta", "text": "w0 "}
    assert found[-2][1]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert found[-2][1]["usage"]["output_tokens"] == 4


def test_sampling_fields_reach_the_engine(server: FakeServer) -> None:
    fields = {"temperature": 0.5, "top_p": 0.9, "top_k": 3, "stop_sequences": ["x", "y"], "max_tokens": 7}
    received = ask(server, messages=[{"role": "user", "content": "seen"}], **fields).json["content"][0]["text"]
    assert json.loads(received)[:6] == [7, ["x", "y", "\nuser:"], False, 0.5, 0.9, 3]


@pytest.mark.parametrize("asked", ["auto", "standard_only", "priority"])
def test_the_service_tier_is_standard(server: FakeServer, asked: str) -> None:
    """Every answer has the standard tier. An unknown tier is refused."""
    assert ask(server, service_tier=asked).json["usage"]["service_tier"] == "standard"
    refused = ask(server, service_tier="x")
    assert fault(refused) == (400, "invalid_request_error", "service_tier", "invalid_value")


def test_system_and_turns_become_the_prompt(server: FakeServer) -> None:
    turns = [{"role": "user", "content": "echo"}, {"role": "assistant", "content": "It is "}]
    received = ask(server, system="Be brief.", messages=turns, max_tokens=1).json["content"][0]["text"]
    assert received == "system: Be brief.\nuser: echo\nassistant: It is "
    counted = server.request("POST", "/v1/messages/count_tokens", json.dumps(
        {"model": MODEL, "system": "Be brief.", "messages": turns}
    ).encode())  # fmt: skip
    assert counted.json == {"input_tokens": len(received)}


def test_thinking_reaches_the_template(server: FakeServer) -> None:
    asked = [{"role": "user", "content": "echo"}]
    received = ask(server, messages=asked, thinking={"type": "disabled"}, max_tokens=1).json
    assert received["content"][0]["text"] == "thinking: False\nuser: echo"


def test_a_stop_sequence_is_named(real: FakeServer) -> None:
    plain = ask(real, temperature=0, max_tokens=20).json
    text = plain["content"][0]["text"]
    cut = ask(real, temperature=0, max_tokens=20, stop_sequences=["never", text[3:5]]).json
    assert (cut["stop_reason"], cut["stop_sequence"]) == ("stop_sequence", text[3:5])
    assert cut["content"][0]["text"] == text[: text.index(text[3:5])]
    streamed = events(ask(real, temperature=0, max_tokens=20, stop_sequences=[text[3:5]], stream=True))
    assert streamed[-2][1]["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": text[3:5]}


def test_an_answer_at_the_end_of_the_context_has_its_own_stop_reason(server: FakeServer) -> None:
    asked = [{"role": "user", "content": "x" * 400}]
    answer = ask(server, messages=asked, max_tokens=32_000).json
    assert answer["stop_reason"] == "model_context_window_exceeded"
    assert answer["usage"]["output_tokens"] == 512 - answer["usage"]["input_tokens"]
    assert ask(server, messages=asked, max_tokens=5).json["stop_reason"] == "max_tokens"
    asked = [{"role": "user", "content": "x" * 600}]
    assert fault(ask(server, messages=asked)) == (400, "invalid_request_error", "messages", "context_length_exceeded")


def test_cached_tokens_are_counted_separately(real: FakeServer) -> None:
    asked = [{"role": "user", "content": "a long and common beginning of a prompt"}]
    counts = [ask(real, messages=asked, max_tokens=1).json["usage"] for _ in range(2)]
    assert counts[0]["cache_read_input_tokens"] == 0
    assert counts[1]["cache_read_input_tokens"] > 0
    assert counts[1]["input_tokens"] + counts[1]["cache_read_input_tokens"] == counts[0]["input_tokens"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"model": "other"}, (404, "not_found_error", "model", "model_not_found")),
        ({"max_tokens": None}, (400, "invalid_request_error", "max_tokens", "invalid_type")),
        ({"n": 2}, (400, "invalid_request_error", "n", "unknown_parameter")),
        (
            {"output_config": {"effort": "little"}},
            (400, "invalid_request_error", "output_config.effort", "invalid_value"),
        ),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"not": {}}}}},
            (400, "invalid_request_error", "output_config.format", "unsupported_schema"),
        ),
        ({"messages": [{"role": "user", "content": "boom-first"}]}, (500, "api_error", None, "engine_error")),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_invalid_request_is_refused(
    server: FakeServer, fields: Any, expected: tuple[int, str, str | None, str], stream: bool
) -> None:
    assert fault(ask(server, **fields, stream=stream)) == expected


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"model": "other"}, "model_not_found"),
        ({"mcp_servers": [{}]}, "unsupported_parameter"),
        ({"cache_control": "x"}, "invalid_type"),
        ({"max_tokens": 5}, "unknown_parameter"),
    ],
    ids=str,
)
def test_an_invalid_count_is_refused(server: FakeServer, fields: dict[str, Any], code: str) -> None:
    answer = server.post("/v1/messages/count_tokens", **{"model": MODEL, "messages": [USER], **fields})
    [name] = fields
    status, kind = (404, "not_found_error") if code == "model_not_found" else (400, "invalid_request_error")
    assert fault(answer) == (status, kind, name, code)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_all_errors_have_the_shape_of_the_api(server: FakeServer, path: str) -> None:
    def failed(method: str, data: bytes | None = b"{}", **headers: str) -> tuple[int, str, str | None, str]:
        return fault(server.request(method, path, data, JSON | headers))

    wrong = "invalid_request_error"
    assert failed("POST", b"{") == (400, wrong, None, "invalid_json")
    assert failed("POST", b"[]") == (400, wrong, None, "invalid_type")
    assert failed("GET", None) == (405, wrong, None, "method_not_allowed")
    assert failed("POST", b"x" * 4_200_000) == (413, "request_too_large", None, "request_too_large")
    assert failed("POST", **{"content-type": "text/plain"}) == (415, wrong, None, "unsupported_media_type")
    assert failed("POST", host="evil.example") == (403, "permission_error", "host", "host_not_allowed")
    version = {"anthropic-version": "2023-01-01"}
    assert failed("POST", **version) == (400, wrong, "anthropic-version", "invalid_value")


@pytest.mark.parametrize("version", ["2023-06-01", "2026-10-21"])
def test_every_version_of_the_api_is_answered(server: FakeServer, version: str) -> None:
    headers = JSON | {"anthropic-version": version, "anthropic-beta": "some-beta-2025-01-01"}
    answer = server.request("POST", "/v1/messages?beta=true", body(), headers)
    assert answer.json["content"][0]["text"] == "w0 w1 w2 w3 "


def test_both_headers_of_a_key_are_accepted(guarded: FakeServer) -> None:
    def status(path: str = "/v1/messages", **headers: str) -> int:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return guarded.request("POST", path, body(), JSON | named).status

    assert status(x_api_key=KEY) == 200
    assert status(authorization=f"Bearer {KEY}") == 200
    assert status(x_api_key=KEY, authorization="Bearer another") == 200  # as Anthropic has it
    assert status(x_api_key="another", authorization=f"Bearer {KEY}") == 401
    assert status() == status(x_api_key="") == status(x_api_key=f"Bearer {KEY}") == 401
    for path in ("/v1/chat/completions", "/v1/messages/", "/v1/Messages"):
        assert status(path, x_api_key=KEY) == 401
    answer = guarded.request("POST", "/v1/messages", body(), JSON)
    assert fault(answer) == (401, "authentication_error", None, "missing_api_key")
    twice = f"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {KEY}\r\nX-Api-Key: {KEY}\r\n\r\n"
    assert guarded.raw(twice.encode())[9:12] == b"401"


def test_a_full_or_stopping_server_is_overloaded() -> None:
    with (
        fake_server(rows=1, max_queue=0, interval=0.05, server=QUIET) as busy,
        socket.create_connection(("127.0.0.1", busy.port), timeout=10) as first,
    ):
        first.sendall(raw_request(stream=True, messages=[{"role": "user", "content": "a"}], max_tokens=400))
        busy.wait_until(lambda: busy.gauge("infrs_requests_running") == 1)
        full = ask(busy)
        assert fault(full) == (429, "rate_limit_error", None, "queue_full")
        assert full.headers["retry-after"] == "1"
        busy.process.terminate()
        busy.wait_until(lambda: busy.get("/ready").status == 503)
        draining = ask(busy)
        assert fault(draining) == (529, "overloaded_error", None, "server_draining")
        assert draining.headers["retry-after"] == "1"


def raw_request(**fields: Any) -> bytes:
    data = body(**fields)
    return b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(data), data)


def test_a_silent_stream_gets_pings() -> None:
    with fake_server(rows=1, interval=0.5, server=QUIET | {"ping_interval": 0.1}) as slow:
        found = events(ask(slow, stream=True, max_tokens=2))
    names = [name for name, _ in found]
    assert "ping" in names
    assert [name for name in names if name != "ping"][-1] == "message_stop"
    assert all(data == {"type": "ping"} for name, data in found if name == "ping")


def test_a_failure_in_a_stream_is_its_last_event(server: FakeServer) -> None:
    answer = ask(server, stream=True, messages=[{"role": "user", "content": "boom"}])
    assert answer.status == 200
    name, data = events(answer)[-1]
    assert name == "error"
    assert (data["error"]["type"], data["error"]["details"]["error_code"]) == ("api_error", "engine_error")
    assert "/secret/path" not in answer.body.decode()


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_holds_no_slot(stream: bool) -> None:
    with fake_server(rows=1, max_queue=8, max_model_len=1 << 21, interval=0.005, server=QUIET) as slow:
        asked = raw_request(stream=stream, messages=[{"role": "user", "content": "x" * 100_000}], max_tokens=1 << 20)
        with socket.create_connection(("127.0.0.1", slow.port), timeout=10) as connection:
            connection.sendall(asked)
            slow.wait_until(lambda: slow.gauge("infrs_requests_running") == 1)
        assert slow.wait_idle() < 2.0
