"""The header `x-infrs-ignored` on each route, and the errors by which clients recognise what they cannot have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fake_encoder import EMBEDDING_ID
from fake_process import MODEL, FakeServer, fake_server
from sockets import HANDSHAKE

USER = {"role": "user", "content": "hi"}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": MODEL, "messages": [USER], "max_tokens": 2},
    "/v1/completions": {"model": MODEL, "prompt": "hi", "max_tokens": 2},
    "/v1/responses": {"model": MODEL, "input": "hi", "max_output_tokens": 2},
    "/v1/responses/input_tokens": {"model": MODEL, "input": "hi"},
    "/v1/responses/compact": {"model": MODEL, "input": "hi", "max_output_tokens": 2},
    "/v1/messages": {"model": MODEL, "messages": [USER], "max_tokens": 2},
    "/v1/messages/count_tokens": {"model": MODEL, "messages": [USER]},
    "/v1/embeddings": {"model": EMBEDDING_ID, "input": "hi"},
}
STREAMED = ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"]


@pytest.fixture(scope="module")
def both() -> Iterator[FakeServer]:
    """A server with a chat model and an embedding model."""
    with fake_server(embedding="beside", rows=2, max_queue=20, server={"access_log": False}) as running:
        yield running


@pytest.mark.parametrize("path", BODIES)
def test_an_answer_names_the_hints_of_its_request(both: FakeServer, path: str) -> None:
    assert "x-infrs-ignored" not in both.post(path, **BODIES[path]).headers
    answer = both.post(path, **BODIES[path], user="u", priority=7, cache_salt="")
    assert (answer.status, answer.headers["x-infrs-ignored"]) == (200, "user, priority")


@pytest.mark.parametrize("path", STREAMED)
def test_a_stream_names_the_hints_of_its_request(both: FakeServer, path: str) -> None:
    answer = both.post(path, **BODIES[path], user="u", stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-infrs-ignored"] == "user"


LOOK_AHEAD = {"type": "object", "properties": {"mail": {"type": "string", "pattern": "^(?!\\.)a+$"}}}
FORCED: dict[str, tuple[dict[str, Any], Any]] = {
    "/v1/chat/completions": ({"type": "function", "function": {"name": "find", "parameters": LOOK_AHEAD}}, "required"),
    "/v1/responses": ({"type": "function", "name": "find", "parameters": LOOK_AHEAD, "strict": False}, "required"),
    "/v1/messages": ({"name": "find", "input_schema": LOOK_AHEAD}, {"type": "any"}),
}


@pytest.mark.parametrize("path", FORCED)
def test_a_forced_call_names_a_tool_with_a_pattern_that_is_left_out(both: FakeServer, path: str) -> None:
    tool, forced = FORCED[path]
    assert "x-infrs-ignored" not in both.post(path, **BODIES[path], tools=[tool]).headers
    answer = both.post(path, **BODIES[path], tools=[tool], tool_choice=forced)
    assert (answer.status, answer.headers["x-infrs-ignored"]) == (200, "tools[find].parameters")


def test_a_forced_call_names_the_tool_with_a_schema_beyond_the_limits(both: FakeServer) -> None:
    """The grammar takes any object for it, and the compiler never gets it."""
    path = "/v1/chat/completions"
    steps = {"type": "object", "properties": {"n": {"type": "integer", "multipleOf": 100_003}}}
    tool = {"type": "function", "function": {"name": "count", "parameters": steps}}
    answer = both.post(path, **BODIES[path], tools=[tool], tool_choice="required")
    assert (answer.status, answer.headers["x-infrs-ignored"]) == (200, "tools[count].parameters")


def test_counted_input_tokens_are_those_of_the_answer(both: FakeServer) -> None:
    path = "/v1/responses"
    first = both.post(path, **BODIES[path]).json
    for fields in ({}, {"instructions": "Be brief."}, {"previous_response_id": first["id"]}):
        counted = both.post(f"{path}/input_tokens", **BODIES[f"{path}/input_tokens"], **fields).json
        assert counted["object"] == "response.input_tokens"
        assert counted["input_tokens"] == both.post(path, **BODIES[path], **fields).json["usage"]["input_tokens"]


def test_a_path_of_openai_that_is_absent_says_what_to_send(both: FakeServer) -> None:
    answer = both.post("/v1/conversations", model=MODEL)
    assert answer.error == (404, "invalid_request_error", None, "not_found")
    assert "send previous_response_id" in answer.json["error"]["message"]


@pytest.mark.parametrize(("path", "status"), [("/v1/chat/completions", 405), ("/health", 200)])
def test_a_websocket_handshake_elsewhere_is_answered_over_http(both: FakeServer, path: str, status: int) -> None:
    assert both.request("GET", path, headers=HANDSHAKE).status == status


LONG = "x " * 400  # of 512 tokens


@pytest.mark.parametrize("text", [LONG, LONG * 10], ids=["long", "long_before_it_is_tokenised"])
@pytest.mark.parametrize(
    ("path", "param", "fields"),
    [
        ("/v1/chat/completions", "messages", {"messages": [USER | {"content": ...}]}),
        ("/v1/completions", "prompt", {"prompt": ...}),
        ("/v1/responses", "input", {"input": ...}),
    ],
)
def test_a_long_prompt_is_refused_in_words_that_clients_search_for(
    both: FakeServer, path: str, param: str, fields: dict[str, Any], text: str
) -> None:
    [(name, value)] = fields.items()
    given = text if value is ... else [USER | {"content": text}]
    answer = both.post(path, **BODIES[path] | {name: given})
    assert answer.error == (400, "invalid_request_error", param, "context_length_exceeded")
    message = answer.json["error"]["message"]
    assert message.startswith("This model's maximum context length is 512 tokens")
    assert f"your {param} resulted in " in message
    assert ("messages" in message) == (param == "messages")


@pytest.mark.parametrize("text", [LONG, LONG * 10], ids=["long", "long_before_it_is_tokenised"])
def test_a_long_message_is_refused_in_the_form_of_anthropic(both: FakeServer, text: str) -> None:
    path = "/v1/messages"
    answer = both.post(path, **BODIES[path] | {"messages": [USER | {"content": text}]})
    num_tokens = both.post("/v1/messages/count_tokens", model=MODEL, messages=[USER | {"content": text}])
    assert answer.status == 400
    error = answer.json["error"]
    assert error["message"] == f"prompt is too long: {num_tokens.json['input_tokens']} tokens > 511 maximum"
    assert error["details"] == {"error_code": "context_length_exceeded", "param": "messages"}


def test_a_thread_is_refused_so_that_the_sdk_sends_the_whole_conversation(both: FakeServer) -> None:
    path = "/v1/messages"
    answer = both.post(path, **BODIES[path], thread={"type": "new"})
    assert answer.status == 400
    assert answer.json["error"]["details"] == {"error_code": "thread_unsupported_request", "param": "thread"}
