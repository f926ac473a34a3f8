"""`/v1/responses/compact`, and the `compaction` items that it returns."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fake_process import MODEL, FakeServer, fake_server
from hypothesis import given
from hypothesis import strategies as st
from openai import OpenAI
from sockets import client_of

from infrs.api.responses.compaction import CompactionPresenter
from infrs.api.responses.items import decode_summary, encode_summary
from infrs.errors import RequestError

SCRIPT = Path(__file__).parent / "scripted_server.py"
COMPACT = "/v1/responses/compact"
FORGED = encode_summary("It is 4.").rpartition(".")[0] + "." + base64.urlsafe_b64encode(b"It is 5.").decode()
TALK: Any = [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": "Launch on Tuesday."},
    {"role": "assistant", "content": "Understood."},
    {"type": "function_call", "call_id": "call_1", "name": "notify", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "call_1", "output": "support knows"},
    {"role": "user", "content": "please stop"},
]


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    with fake_server(rows=4, max_queue=60, max_model_len=2048, server={"access_log": False}) as running:
        yield running


def texts(output: Any) -> list[str]:
    return [part["text"] for item in output for part in item.get("content", ())]


def echoed(server: FakeServer, items: list[Any]) -> str:
    """Return the prompt that items make, which the fake engine answers with."""
    asked = [*items, {"role": "user", "content": "echo"}]
    [message] = server.post("/v1/responses", model=MODEL, input=asked, max_output_tokens=1).json["output"]
    return str(message["content"][0]["text"])


@given(st.text())
def test_a_summary_survives_its_encoding(text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    assert decode_summary(encode_summary(text)) == text


@pytest.mark.parametrize(
    "content", ["", "a", "infrs1.", "gAAAAABo-foreign", encode_summary("It is 4.")[:-4], "infrs1..é"]
)
def test_foreign_content_is_refused_by_name(server: FakeServer, content: str) -> None:
    answer = server.post("/v1/responses", model=MODEL, input=[{"type": "compaction", "encrypted_content": content}])
    param = "input[0].encrypted_content"
    assert answer.error == (400, "invalid_request_error", param, "invalid_encrypted_content")
    assert "send the items that it stands for" in answer.json["error"]["message"]


def test_openais_client_compacts_a_conversation_and_continues_it(server: FakeServer) -> None:
    client = OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="unused", max_retries=0)
    compacted = client.responses.compact(model=MODEL, input=TALK, instructions="Be kind.", prompt_cache_key="a")
    assert compacted.object == "response.compaction"
    assert compacted.usage.output_tokens == 4
    output: Any = [item.to_dict() for item in compacted.output]
    assert texts(output) == ["Be brief.", "Launch on Tuesday.", "please stop"]
    assert [item["type"] for item in output] == ["message", "message", "message", "compaction"]
    assert decode_summary(output[-1]["encrypted_content"]) == "w0 w1 w2 w3"
    prompt = echoed(server, output)
    assert prompt.startswith("system: Be brief.\nuser: Launch on Tuesday.\nuser: please stop\nuser: Summary of the ")
    assert prompt.endswith(":\n\nw0 w1 w2 w3\nuser: echo")


def test_a_compacted_conversation_starts_a_chain_on_a_websocket(server: FakeServer) -> None:
    output = server.post(COMPACT, model=MODEL, input=TALK).json["output"]
    with client_of(server) as client:
        ended = client.ask(input=[*output, {"role": "user", "content": "please stop"}])[-1]["response"]
        again = client.ask(input="echo", previous_response_id=ended["id"], max_output_tokens=1)[-1]["response"]
    assert "w0 w1 w2 w3\nuser: please stop\nassistant: w0 w1 w2 w3 \nuser: echo" in texts(again["output"])[0]


def test_a_stored_conversation_is_compacted_by_its_id(server: FakeServer) -> None:
    first = server.post("/v1/responses", model=MODEL, input="please stop").json["id"]
    output = server.post(COMPACT, model=MODEL, previous_response_id=first).json["output"]
    assert texts(output) == ["please stop"]
    assert server.post(COMPACT, model=MODEL, previous_response_id="resp_unknown", input=None).status == 400


def test_a_summary_is_summarised_again() -> None:
    """The scripted model repeats what follows "say:", which here is the earlier summary."""
    item = {"type": "compaction", "encrypted_content": encode_summary("say:The code word is slate.")}
    with fake_server(script=SCRIPT, server={"access_log": False}) as server:
        [again] = server.post(COMPACT, model=MODEL, input=[item]).json["output"]
    assert decode_summary(again["encrypted_content"]).startswith("The code word is slate.")


def test_only_the_latest_messages_that_fit_a_quarter_of_the_context_are_kept(server: FakeServer) -> None:
    long = [{"role": "user", "content": f"{number} " + "x" * 250} for number in range(6)]
    output = server.post(COMPACT, model=MODEL, input=[*long, {"role": "user", "content": "please stop"}]).json["output"]
    assert [text[:1] for text in texts(output)] == ["5", "p"]
    assert output[-1]["type"] == "compaction"


def test_a_summary_that_reaches_its_maximum_says_so(server: FakeServer) -> None:
    output = server.post(COMPACT, model=MODEL, input="on and on", max_output_tokens=3).json["output"]
    assert decode_summary(output[-1]["encrypted_content"]).startswith("w0 w1 w2\n[The summary was cut here")


def test_the_fields_of_an_answer_are_named_as_ignored(server: FakeServer) -> None:
    tool = {"type": "function", "name": "notify", "parameters": {"type": "object", "properties": {}}}
    fields = {"tools": [tool], "tool_choice": "auto", "parallel_tool_calls": True, "text": {"verbosity": "low"}}
    answer = server.post(COMPACT, model=MODEL, input=TALK, reasoning={"effort": "low"}, **fields)
    assert answer.status == 200
    assert {*answer.headers["x-infrs-ignored"].split(", ")} >= fields.keys()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"model": None, "input": "a"}, ("model", "missing_required_parameter")),
        ({}, ("input", "missing_required_parameter")),
        ({"input": []}, ("input", "missing_required_parameter")),
        ({"input": "a", "stream": True}, ("stream", "unsupported_parameter")),
        ({"input": "a", "previous_response_id": "resp_1"}, ("previous_response_id", "previous_response_not_found")),
        ({"input": "x" * 1900}, ("input", "context_length_exceeded")),
    ],
)
def test_an_invalid_request_is_refused_by_name(
    server: FakeServer, fields: dict[str, Any], expected: tuple[str, str]
) -> None:
    asked = {name: value for name, value in ({"model": MODEL} | fields).items() if value is not None}
    assert server.post(COMPACT, **asked).error == (400, "invalid_request_error", *expected)


def test_an_empty_summary_is_an_error() -> None:
    facts, parser = SimpleNamespace(body=SimpleNamespace(names={})), SimpleNamespace(finish_reason=None)
    presenter = CompactionPresenter(cast(Any, facts), cast(Any, parser), [])
    with pytest.raises(RequestError, match="wrote no summary") as raised:
        presenter.whole([])
    assert raised.value.code == "compaction_failed"
