"""Requests of real clients, recorded or written from their sources, get a valid answer over a real socket.

A file of tests/clients has a client, its version, how it was recorded, and its requests in order. `$ITEM` in a request
is the id of the first output item of the previous answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from anthropic.types import Message, MessageTokensCount, RawMessageStreamEvent
from fake_process import Answer, FakeServer, fake_server
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

HERE = Path(__file__).parent
FILES = sorted((HERE.parent / "clients").glob("*.json"))
MAX_BYTES = 8192
SECRETS = ("authorization", "x-api-key", "cookie")

# By path: the type of a whole answer, and that of a stream's events; None where the SDK has no such type.
TYPES: dict[str, tuple[Any, Any]] = {
    "/v1/chat/completions": (ChatCompletion, ChatCompletionChunk),
    "/v1/completions": (Completion, None),
    "/v1/responses": (Response, ResponseStreamEvent),
    "/v1/messages": (Message, RawMessageStreamEvent),
    "/v1/messages/count_tokens": (MessageTokensCount, None),
}

# By path: the name of its API in docs/using/clients.md.
NAMES = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/responses": "Responses",
    "/v1/messages": "Messages",
}


@pytest.fixture(scope="module")
def scripted() -> Iterator[FakeServer]:
    with fake_server(script=HERE / "scripted_server.py", server={"access_log": False}) as running:
        yield running


def events(answer: Answer) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in answer.body.decode().splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_request_of_a_client_gets_an_answer_that_its_sdk_reads(scripted: FakeServer, file: Path) -> None:
    client = json.loads(file.read_text(encoding="utf-8"))
    last: Any = {}
    for exchange in client["exchanges"]:
        text = json.dumps(exchange["body"])
        if "$ITEM" in text:
            text = text.replace("$ITEM", last["output"][0]["id"])
        answer = scripted.request(exchange["method"], exchange["path"], text.encode(), exchange["headers"])
        assert answer.status == 200, answer.body
        whole, event = TYPES[exchange["path"].partition("?")[0]]
        if exchange["body"].get("stream"):
            received = events(answer)
            assert received
            if event is not None:
                TypeAdapter(list[event]).validate_python(received)
            assert is_finished(received)
        else:
            last = answer.json
            TypeAdapter(whole).validate_python(last)


def is_finished(received: list[Any]) -> bool:
    """Whether a stream ends as its API says: by an event, or by a reason in one of its chunks."""
    if "type" in received[-1]:
        return received[-1]["type"] in ("message_stop", "response.completed", "response.incomplete")
    return any(choice["finish_reason"] for chunk in received for choice in chunk["choices"])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_recording_is_short_and_has_no_secret(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    client = json.loads(text)
    assert len(text) <= MAX_BYTES
    assert {"client", "version", "recorded", "exchanges"} == client.keys()
    assert client["recorded"].startswith(("from a real run: ", "written from its source", "its recorded first request"))
    for exchange in client["exchanges"]:
        assert not set(SECRETS) & exchange["headers"].keys()


def test_the_table_of_clients_has_each_recording() -> None:
    table = (HERE.parents[1] / "docs" / "using" / "clients.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in table.splitlines() if line.startswith("| ")]
    for file in FILES:
        client = json.loads(file.read_text(encoding="utf-8"))
        listed = [
            apis for name, version, apis in rows if name.startswith(client["client"]) and version == client["version"]
        ]
        paths = {exchange["path"].partition("?")[0].removesuffix("/count_tokens") for exchange in client["exchanges"]}
        assert any({NAMES[path] for path in paths} == {*apis.split(", ")} for apis in listed), file.stem
