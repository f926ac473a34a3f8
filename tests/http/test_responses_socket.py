"""The WebSocket of `/v1/responses`: requests, continuation, errors and order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fake_process import MODEL, FakeServer, fake_server
from openai import OpenAI
from sockets import ENDS, HANDSHAKE, client_of

KEYS = ["first-key-0123456789", "second-key-0123456789"]
CALLED: Any = [{"type": "function_call_output", "call_id": "call_unknown", "output": "4"}]


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    with fake_server(rows=4, max_queue=60, server={"access_log": False}) as running:
        yield running


def text(event: Any) -> str:
    return str(event["response"]["output"][0]["content"][0]["text"])


def stable(event: dict[str, Any]) -> Any:
    """Return an event without its ids and times, which change each time."""
    drop = {"id", "item_id", "created_at", "completed_at", "input_tokens_details"}

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: strip(inner) for name, inner in value.items() if name not in drop}
        return [strip(inner) for inner in value] if isinstance(value, list) else value

    return strip(event)


def test_openais_client_answers_over_a_websocket(server: FakeServer) -> None:
    client = OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="unused", max_retries=0)
    with client.responses.connect() as connection:

        def ask(**fields: Any) -> Any:
            connection.response.create(model=MODEL, store=False, **fields)
            return next(event for event in connection if event.type in ENDS)

        first = ask(input="please stop")
        second = ask(input="echo", max_output_tokens=1, previous_response_id=first.response.id)
    assert first.response.output_text == "w0 w1 w2 w3 "
    assert second.response.output_text.startswith("user: please stop\nassistant: w0 w1 w2 w3 \nuser: echo")


def test_messages_are_the_events_of_a_stream(server: FakeServer) -> None:
    asked = {"model": MODEL, "input": "please stop", "store": False}
    lines = server.post("/v1/responses", **asked, stream=True).body.decode().split("\n")
    streamed = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    with client_of(server) as client:
        received = client.ask(**asked)
    assert [stable(event) for event in received] == [stable(event) for event in streamed]


def test_a_response_that_is_not_stored_continues_on_its_own_connection_only(server: FakeServer) -> None:
    with client_of(server) as client:
        first = client.ask(input="please stop")[-1]["response"]
        assert first["store"] is False
        second = client.ask(input="echo", previous_response_id=first["id"], max_output_tokens=1)[-1]
        assert text(second).startswith("user: please stop\nassistant: w0 w1 w2 w3 ")
        with client_of(server) as other:
            refused = other.ask(input="echo", previous_response_id=first["id"])[-1]
            assert (refused["status"], refused["error"]["code"]) == (400, "previous_response_not_found")
    assert server.get(f"/v1/responses/{first['id']}").status == 404
    assert server.post("/v1/responses", model=MODEL, input="a", previous_response_id=first["id"]).status == 400


def test_a_closed_connection_frees_what_it_kept() -> None:
    with fake_server(server={"access_log": False}) as server:
        with client_of(server) as client:
            for _ in range(6):
                client.ask(input="please stop")
            assert 1 <= server.gauge("infrs_stored_responses") <= 4
        server.wait_until(lambda: server.gauge("infrs_stored_responses") == 0)


def test_a_stored_response_continues_on_any_connection(server: FakeServer) -> None:
    with client_of(server) as client:
        first = client.ask(input="please stop", store=True)[-1]["response"]
    assert first["store"] is True
    with client_of(server) as client:
        again = client.ask(input="echo", previous_response_id=first["id"], max_output_tokens=1)[-1]
    assert text(again).startswith("user: please stop")


def test_a_failed_continuation_forgets_the_response_that_it_names(server: FakeServer) -> None:
    with client_of(server) as client:
        first = client.ask(input="please stop")[-1]["response"]["id"]
        failed = client.ask(input=CALLED, previous_response_id=first)[-1]
        assert failed["error"]["param"] == "input[0].call_id"
        assert client.ask(input="a", previous_response_id=first)[-1]["error"]["code"] == "previous_response_not_found"
        assert client.ask(input="please stop")[-1]["type"] == "response.completed"


@pytest.mark.parametrize("given", [{"input": "hello"}, {"input": []}, {}, {"instructions": "Be brief.", "tools": []}])
def test_a_warm_up_has_no_output_and_can_be_continued(server: FakeServer, given: dict[str, Any]) -> None:
    with client_of(server) as client:
        events = client.ask(**given, generate=False)
        assert [event["type"] for event in events] == ["response.created", "response.in_progress", "response.completed"]
        ended = events[-1]["response"]
        assert (ended["status"], ended["output"]) == ("completed", [])
        echoed = client.ask(input="echo", previous_response_id=ended["id"], max_output_tokens=1)[-1]
    assert text(echoed) == ("user: hello\nuser: echo" if given.get("input") else "user: echo")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"input": []}, (400, "input", "empty_array")),
        ({"type": "response.steer"}, (400, "type", "invalid_value")),
        ({"type": None}, (400, "type", "invalid_value")),
        ({"stream": False}, (400, "stream", "invalid_value")),
        ({"background": True}, (400, "background", "unsupported_parameter")),
        ({"generate": "no"}, (400, "generate", "invalid_type")),
        ({"stream_id": ""}, (400, "stream_id", "invalid_value")),
        ({"temprature": 1}, (400, "temprature", "unknown_parameter")),
        ({"model": "other"}, (404, "model", "model_not_found")),
        ({"input": "a " * 600}, (400, "input", "context_length_exceeded")),
    ],
)
def test_an_error_is_an_event_with_its_status(
    server: FakeServer, fields: dict[str, Any], expected: tuple[int, str, str]
) -> None:
    with client_of(server) as client:
        [event] = client.ask(**{"input": "a", **fields})
        assert (event["type"], event["status"]) == ("error", expected[0])
        assert (event["error"]["param"], event["error"]["code"]) == expected[1:]
        assert event["error"]["type"] == "invalid_request_error"
        assert client.ask(input="please stop", stream=True)[-1]["type"] == "response.completed"


@pytest.mark.parametrize("message", ["", "nonsense", "[]", b"\xff\xfe", '{"type":"response.create","type":"a"}'])
def test_a_message_that_is_no_json_object_is_an_error(server: FakeServer, message: str | bytes) -> None:
    with client_of(server) as client:
        client.connection.send(message)
        [event] = client.receive()
        assert (event["type"], event["status"]) == ("error", 400)
        assert client.ask(input="please stop")[-1]["type"] == "response.completed"


def test_a_failure_within_an_answer_ends_it_and_the_connection_continues(server: FakeServer) -> None:
    with client_of(server) as client:
        events = client.ask(input="boom")
        assert events[-1]["type"] == "response.failed"
        assert events[-1]["response"]["error"]["code"] == "server_error"
        assert client.ask(input="please stop")[-1]["type"] == "response.completed"


def test_requests_are_answered_one_at_a_time_in_order(server: FakeServer) -> None:
    with client_of(server) as client:
        for lane in ("a", "b", "a", None):
            client.send(input="please stop", **({"stream_id": lane} if lane else {}))
        answers = [client.receive() for _ in range(4)]
    for lane, events in zip(("a", "b", "a", None), answers, strict=True):
        assert {event.get("stream_id") for event in events} == {lane}
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        assert text(events[-1]) == "w0 w1 w2 w3 "


def test_a_request_that_is_no_handshake_gets_426(server: FakeServer) -> None:
    answer = server.get("/v1/responses")
    assert answer.error == (426, "invalid_request_error", None, "websocket_required")
    assert answer.headers["upgrade"] == "websocket"


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"sec-websocket-version": "8"}, 400),
        ({"sec-websocket-key": "AAAA"}, 400),
        ({"connection": "keep-alive"}, 400),
        ({"origin": "https://example.com"}, 403),
        ({"host": "example.com"}, 403),
    ],
)
def test_a_bad_handshake_is_refused_over_http(server: FakeServer, changed: dict[str, str], status: int) -> None:
    assert server.request("GET", "/v1/responses", headers=HANDSHAKE | changed).status == status


def test_a_handshake_needs_a_key_and_the_key_separates_tenants() -> None:
    with fake_server(keys=",".join(KEYS), server={"access_log": False}) as server:
        assert server.request("GET", "/v1/responses", headers=HANDSHAKE).error[0] == 401
        with client_of(server, authorization=f"Bearer {KEYS[0]}") as client:
            mine = client.ask(input="please stop", store=True)[-1]["response"]["id"]
        with client_of(server, authorization=f"Bearer {KEYS[1]}") as client:
            refused = client.ask(input="a", previous_response_id=mine)[-1]
    assert refused["error"]["code"] == "previous_response_not_found"


def test_a_server_that_stores_nothing_answers_but_continues_nothing() -> None:
    with fake_server(server={"access_log": False, "max_stored_responses": 0}) as server, client_of(server) as client:
        first = client.ask(input="please stop")[-1]["response"]["id"]
        refused = client.ask(input="a", previous_response_id=first)[-1]
        assert refused["error"]["code"] == "previous_response_not_found"


def test_each_answer_has_a_line_in_the_access_log() -> None:
    with fake_server() as server:
        with client_of(server) as client:
            client.ask(input="please stop")
            client.ask(model="other", input="a")
        server.process.terminate()
        lines = [line for line in server.output().splitlines() if "/v1/responses" in line]
    assert [line.partition("/v1/responses ")[2][:3] for line in lines] == ["101", "200", "404"]
    assert lines[2].endswith(" model_not_found model")
    ids = [line.partition(" ms ")[2].split(",")[0].split(" ")[0] for line in lines]
    assert ids[1:] == [f"{ids[0]}-1", f"{ids[0]}-2"]
