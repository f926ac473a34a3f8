"""`/v1/responses` over HTTP: refusals, failures and disconnections."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fake_process import MODEL, SLACK, FakeServer, chat_request, fake_server
from test_disconnect import connect

BAD = "invalid_request_error"
FUNCTION = {"type": "function", "name": "f"}
USER = {"role": "user", "content": "hi"}
SCHEMA = {"type": "json_schema", "name": "s", "schema": {"type": "object"}}


def events(body: bytes) -> list[tuple[str, dict[str, Any]]]:
    """Return the name and the data of each event; a comment has none."""
    frames = [frame for frame in body.decode().split("\n\n") if frame and not frame.startswith(":")]
    pairs = [frame.split("\n") for frame in frames]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in pairs]


CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "sunny"}
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"input": None}, "input", "invalid_type"),
    ({"input": []}, "input", "empty_array"),
    ({"input": [5]}, "input[0]", "invalid_type"),
    ({"input": [USER, {"role": "user"}]}, "input[1].content", "missing_required_parameter"),
    ({"input": [{"content": "x"}]}, "input[0].role", "missing_required_parameter"),
    ({"input": [{**USER, "role": "tool"}]}, "input[0].role", "invalid_value"),
    ({"input": [{**USER, "foo": 1}]}, "input[0].foo", "unknown_parameter"),
    ({"input": [{**USER, "content": []}]}, "input[0].content", "empty_array"),
    (
        {"input": [{**USER, "content": [{"type": "input_image", "image_url": "x"}]}]},
        "input[0].content[0].type",
        "unsupported_content",
    ),
    ({"input": [{"type": "web_search_call", "id": "x"}]}, "input[0].type", "unsupported_parameter"),
    ({"input": [USER, {"type": "item_reference", "id": "x"}]}, "input[1].id", "item_not_found"),
    ({"input": [{"type": "item_reference"}]}, "input[0].id", "missing_required_parameter"),
    ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id", "missing_required_parameter"),
    ({"input": [OUTPUT]}, "input[0].call_id", "invalid_value"),
    ({"input": [USER, OUTPUT, CALL]}, "input[1].call_id", "invalid_value"),
    ({"input": [CALL, {**OUTPUT, "call_id": "c2"}]}, "input[1].call_id", "invalid_value"),
    ({"input": [{"type": "reasoning", "summary": [], "encrypted_content": "x"}]}, "input", "empty_array"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type", "unsupported_parameter"),
    ({"tools": [FUNCTION, {"type": "web_serch"}]}, "tools[1].type", "unsupported_parameter"),
    (
        {"tools": [{"type": "namespace", "name": "n" * 124, "tools": [{**FUNCTION, "name": "long"}]}]},
        "tools[0].tools[0].name",
        "invalid_value",
    ),
    ({"tools": [{"type": "function"}]}, "tools[0].name", "missing_required_parameter"),
    ({"tools": [{**FUNCTION, "parameters": {"type": "array"}}]}, "tools[0].parameters", "invalid_value"),
    ({"tools": [FUNCTION, FUNCTION]}, "tools", "invalid_value"),
    ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
    ({"tool_choice": "always"}, "tool_choice", "invalid_value"),
    ({"tool_choice": {"type": "web_search"}}, "tool_choice.type", "invalid_value"),
    ({"tool_choice": {"type": "function"}}, "tool_choice.name", "invalid_value"),
    ({"tool_choice": {"type": "function", "name": "g"}, "tools": [FUNCTION]}, "tool_choice", "invalid_value"),
    (
        {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{**FUNCTION, "name": "g"}]}},
        "tool_choice.tools",
        "invalid_value",
    ),
    ({"text": {"format": {"type": "json_schema"}}}, "text.format.name", "missing_required_parameter"),
    ({"text": {"format": {**SCHEMA, "schema": {"not": {}}}}}, "text.format", "unsupported_schema"),
    ({"text": {"format": {"type": "text", "name": "x"}}}, "text.format.name", "invalid_value"),
    ({"text": {"verbosity": "loud"}}, "text.verbosity", "invalid_value"),
    ({"reasoning": {"effort": "much"}}, "reasoning.effort", "invalid_value"),
    ({"reasoning": {"summary": "long"}}, "reasoning.summary", "invalid_value"),
    ({"include": ["reasoning.plain_content"]}, "include[0]", "invalid_value"),
    ({"background": True}, "background", "unsupported_parameter"),
    ({"background_options": {"a": 1}}, "background_options", "unsupported_parameter"),
    ({"access_programs": ["a"]}, "access_programs", "unsupported_parameter"),
    ({"image": {"a": 1}}, "image", "unsupported_parameter"),
    ({"moderation": {"a": 1}}, "moderation", "unsupported_parameter"),
    ({"truncation": "middle"}, "truncation", "invalid_value"),
    ({"metadata": {"a": 1}}, "metadata.a", "invalid_type"),
    ({"repetition_penalty": 1.1}, "repetition_penalty", "unsupported_parameter"),
    ({"presence_penalty": 3}, "presence_penalty", "decimal_above_max_value"),
    ({"conversation": "c"}, "conversation", "unsupported_parameter"),
    ({"prompt": {"id": "p"}}, "prompt", "unsupported_parameter"),
    ({"max_output_tokens": 0}, "max_output_tokens", "integer_below_min_value"),
    ({"input": "x" * 600}, "input", "context_length_exceeded"),
    ({"temperature": 3}, "temperature", "decimal_above_max_value"),
    ({"top_logprobs": 21}, "top_logprobs", "integer_above_max_value"),
    ({"stream": False, "stream_options": {"include_obfuscation": True}}, "stream_options", "invalid_value"),
    ({"service_tier": "cheap"}, "service_tier", "invalid_value"),
    ({"metadata": {"a": 1}}, "metadata.a", "invalid_type"),
    ({"messages": []}, "messages", "unknown_parameter"),
    ({"foo": 1}, "foo", "unknown_parameter"),
    ({"previous_response_id": "resp_x"}, "previous_response_id", "previous_response_not_found"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("fields", "param", "code"), REFUSED, ids=[f"{param}-{code}" for _, param, code in REFUSED])
def test_an_invalid_request_is_refused(
    server: FakeServer, fields: dict[str, Any], param: str, code: str, stream: bool
) -> None:
    answer = server.post("/v1/responses", **{"model": MODEL, "input": "hi", "stream": stream, **fields})
    assert answer.error == (400, BAD, param, code)


def test_an_unknown_model_is_refused(server: FakeServer) -> None:
    assert server.post("/v1/responses", model="other", input="hi").error == (404, BAD, "model", "model_not_found")


NEUTRAL: list[dict[str, Any]] = [
    {"truncation": "disabled", "background": False, "service_tier": "auto", "store": True, "max_tool_calls": 1},
    {"text": {"format": {"type": "text"}, "verbosity": "medium"}, "reasoning": {"effort": "none", "summary": "auto"}},
    {
        "include": ["file_search_call.results", "reasoning.encrypted_content"],
        "prompt_cache_key": "k",
        "safety_identifier": "s",
    },
    {"truncation": "auto", "prompt_cache_retention": "24h", "client_metadata": {"x-installation": "y"}, "top_k": -1},
    {"reasoning": {"effort": "medium", "summary": "detailed"}, "text": {"verbosity": "low"}, "service_tier": "flex"},
    {"tools": [], "tool_choice": "auto", "context_management": [], "stream_options": None, "conversation": None},
]


@pytest.mark.parametrize("fields", NEUTRAL)
def test_fields_with_neutral_values_are_accepted(server: FakeServer, fields: dict[str, Any]) -> None:
    answer = server.post("/v1/responses", model=MODEL, input="please stop", **fields)
    assert answer.json["output"][0]["content"][0]["text"] == "w0 w1 w2 w3 "


def test_sampling_fields_reach_the_engine(server: FakeServer) -> None:
    fields = {
        "temperature": 0.5,
        "top_p": 0.25,
        "max_output_tokens": 3,
        "presence_penalty": 1.5,
        "frequency_penalty": -1,
    }
    answer = server.post("/v1/responses", model=MODEL, input="seen", **fields).json
    seen = json.loads(answer["output"][0]["content"][0]["text"])
    assert (seen[0], *seen[3:5]) == (3, 0.5, 0.25)
    assert seen[8][1:3] == [answer["presence_penalty"], answer["frequency_penalty"]] == [1.5, -1.0]
    assert (answer["temperature"], answer["top_p"], answer["max_output_tokens"]) == (0.5, 0.25, 3)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("instructions", "Be brief."),
        ("max_tool_calls", 3),
        ("metadata", {"a": "b"}),
        ("prompt_cache_key", "k"),
        ("safety_identifier", "s"),
        ("user", "u"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_fields_of_the_request_are_returned(server: FakeServer, field: str, value: object, stream: bool) -> None:
    answer = server.post("/v1/responses", model=MODEL, input="please stop", stream=stream, **{field: value})
    received = [data["response"] for _, data in events(answer.body) if "response" in data] if stream else [answer.json]
    assert len(received) == (3 if stream else 1)
    assert [response[field] for response in received] == [value] * len(received)


@pytest.mark.parametrize("asked", ["auto", "default", "flex", "priority"])
def test_the_service_tier_is_default(server: FakeServer, asked: str) -> None:
    """Every answer has the default tier, whatever the request asks for."""
    answer = server.post("/v1/responses", model=MODEL, input="please stop", service_tier=asked)
    assert answer.json["service_tier"] == "default"


def test_events_are_not_padded(server: FakeServer) -> None:
    asked = {"model": MODEL, "input": "please stop", "stream": True}
    plain = events(server.post("/v1/responses", **asked, stream_options={"include_obfuscation": False}).body)
    assert plain[-1][0] == "response.completed"
    assert all("obfuscation" not in data for _, data in plain)
    padded = server.post("/v1/responses", **asked, stream_options={"include_obfuscation": True})
    assert padded.headers["x-infrs-ignored"] == "stream_options.include_obfuscation"


def test_a_failing_stream_ends_with_a_failed_event(server: FakeServer) -> None:
    answer = server.post("/v1/responses", model=MODEL, input="boom", stream=True)
    assert answer.status == 200
    name, data = events(answer.body)[-1]
    assert (name, data["type"], data["response"]["status"]) == ("response.failed",) * 2 + ("failed",)
    assert data["response"]["error"]["code"] == "server_error"
    assert "/secret/path" not in answer.body.decode()
    assert data["sequence_number"] == len(events(answer.body)) - 1
    assert server.get(f"/v1/responses/{data['response']['id']}").status == 404
    assert server.post("/v1/responses", model=MODEL, input="boom").error[0] == 500
    assert server.post("/v1/responses", model=MODEL, input="boom-first", stream=True).error[0] == 500


def test_a_stream_that_fails_before_its_first_token_still_starts() -> None:
    limits = {"access_log": False, "ping_interval": 0.05, "queue_timeout": 0.4}
    with fake_server(rows=1, max_model_len=1 << 21, interval=0.05, server=limits) as busy:
        first = connect(busy, chat_request())
        busy.wait_until(lambda: busy.gauge("infrs_requests_running") == 1)
        answer = busy.post("/v1/responses", model=MODEL, input="hi", stream=True)
        first.close()
    assert answer.body.startswith(b": ping")
    assert [name for name, _ in events(answer.body)] == [f"response.{n}" for n in ("created", "in_progress", "failed")]


def test_names_of_events_are_their_types(server: FakeServer) -> None:
    answer = server.post("/v1/responses", model=MODEL, input="please stop", stream=True)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    received = events(answer.body)
    assert all(name == data["type"] for name, data in received)
    assert received[-1][0] == "response.completed"


@pytest.mark.parametrize(
    ("method", "query", "param"),
    [
        ("GET", "?stream=true", "stream"),
        ("GET", "?include[]=x", "include[]"),
        ("DELETE", "?force=1", "force"),
        ("GET", "/input_items?limit=0", "limit"),
        ("GET", "/input_items?limit=101", "limit"),
        ("GET", "/input_items?limit=x", "limit"),
        ("GET", "/input_items?order=up", "order"),
        ("GET", "/input_items?after=msg_none", "after"),
        ("GET", "/input_items?before=x", "before"),
    ],
)
def test_arguments_are_checked(server: FakeServer, method: str, query: str, param: str) -> None:
    kept = server.post("/v1/responses", model=MODEL, input="please stop").json["id"]
    assert server.request(method, f"/v1/responses/{kept}{query}").error[:3] == (400, BAD, param)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_stops_its_answer(stream: bool) -> None:
    with fake_server(rows=1, max_model_len=1 << 21, interval=0.005, server={"access_log": False}) as slow:
        body = json.dumps({"model": MODEL, "input": "hi", "stream": stream}).encode()
        head = b"POST /v1/responses HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
        connection = connect(slow, head + body)
        slow.wait_until(lambda: slow.gauge("infrs_requests_running") == 1)
        connection.close()
        assert slow.wait_idle() < SLACK
        assert slow.gauge("infrs_stored_responses") == 0
