"""The curl commands of the README work."""

import json
import subprocess

import pytest
from fake_process import MODEL, FakeServer

BODY = {"model": MODEL, "messages": [{"role": "user", "content": "please stop"}]}


def curl(server: FakeServer, path: str, *arguments: str) -> str:
    command = ["curl", "-sS", "--max-time", "20", f"http://127.0.0.1:{server.port}{path}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("headers", [[], ["-H", "content-type: application/json"]])
def test_a_chat_is_answered(server: FakeServer, headers: list[str]) -> None:
    arguments = [*headers, "-d" if headers else "--json", json.dumps(BODY)]
    answer = json.loads(curl(server, "/v1/chat/completions", *arguments))
    assert answer["choices"][0]["message"]["content"] == "w0 w1 w2 w3 "


def test_a_stream_arrives_as_events(server: FakeServer) -> None:
    output = curl(server, "/v1/chat/completions", "-N", "--json", json.dumps({**BODY, "stream": True}))
    assert output.count("data: ") == 7
    assert output.endswith("data: [DONE]\n\n")


def test_the_default_content_type_of_curl_is_refused_with_an_explanation(server: FakeServer) -> None:
    error = json.loads(curl(server, "/v1/chat/completions", "-d", json.dumps(BODY)))["error"]
    assert error["code"] == "unsupported_media_type"
    assert "application/json" in error["message"]


def test_the_models_are_listed(server: FakeServer) -> None:
    assert json.loads(curl(server, f"/v1/models/{MODEL}"))["id"] == MODEL
    assert "200 OK" in curl(server, "/health", "-I")
