"""`/tokenize`, `/detokenize`, `/apply-template` and `/openapi.json`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from fake_process import MODEL, FakeServer, fake_server
from sanic import Sanic

from infrs.api.chat.request import ChatCompletionRequest
from infrs.http.request_guard import PAGE_FILES_ROUTE, PAGE_ROUTE


@pytest.fixture(scope="module")
def with_begin() -> Iterator[FakeServer]:
    """A server with a tokenizer that puts a control token before texts."""
    with fake_server(engine="synthetic", server={"access_log": False}) as running:
        yield running


BAD = "invalid_request_error"
USER = {"role": "user", "content": "é?"}


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"prompt": "hé"}, "hé"),
        ({"content": "hé"}, "hé"),
        ({"prompt": "", "add_special_tokens": False}, ""),
        ({"content": "a\u0000\u2028", "add_special": True}, "a\u0000\u2028"),
        ({"messages": [USER]}, "user: é?"),
        ({"messages": [USER], "chat_template_kwargs": {"enable_thinking": True}}, "thinking: True\nuser: é?"),
        ({"model": MODEL, "prompt": "x", "messages": None}, "x"),
    ],
)
def test_detokenize_inverts_tokenize(server: FakeServer, fields: dict[str, Any], text: str) -> None:
    answer = server.post("/tokenize", **fields).json
    ids = list(text.encode())
    assert answer == {"tokens": ids, "count": len(ids), "max_model_len": 512}
    assert server.post("/detokenize", tokens=answer["tokens"]).json == {"prompt": text, "content": text}


def test_a_prompt_begins_with_bos_and_content_only_on_request(with_begin: FakeServer) -> None:
    """`prompt` has BOS as prompts do, `content` only if it is asked for, as with vLLM and with llama.cpp."""

    def ids(**fields: object) -> list[int]:
        return list(with_begin.post("/tokenize", **fields).json["tokens"])

    plain = ids(content="a")
    assert ids(prompt="a") == ids(content="a", add_special=True) == [0, *plain]
    assert ids(prompt="a", add_special_tokens=False) == plain
    for skip, text in ((False, "</s>a"), (True, "a")):
        answer = with_begin.post("/detokenize", tokens=[0, *plain], skip_special_tokens=skip)
        assert answer.json["prompt"] == text


def test_tokenize_returns_the_texts_of_tokens(server: FakeServer) -> None:
    assert server.post("/tokenize", prompt="aé", return_token_strs=True).json["token_strs"] == ["a", "\ufffd", "\ufffd"]
    chat = server.post("/tokenize", messages=[{"role": "user", "content": "a"}], return_token_strs=True).json
    assert chat["token_strs"] == [*"user: a"]


def test_tokenizer_info_has_the_special_tokens_and_the_template(server: FakeServer, with_begin: FakeServer) -> None:
    info = {"pad_token": None, "bos_token": None, "chat_template": None}
    assert server.get("/tokenizer_info").json == info | {"model_max_length": 512, "eos_token": "Ā"}
    assert with_begin.get("/tokenizer_info").json == info | {"model_max_length": 96, "eos_token": "</s>"}


def test_part_of_a_character_is_replaced(server: FakeServer) -> None:
    assert server.post("/detokenize", tokens=[0xC3]).json["prompt"] == "\ufffd"
    assert server.post("/detokenize", tokens=[]).json["prompt"] == ""


def test_apply_template_returns_the_prompt(server: FakeServer) -> None:
    assert server.post("/apply-template", messages=[USER]).json == {"prompt": "user: é?"}
    open_end = [USER, {"role": "assistant", "content": "It is "}]
    answer = server.post("/apply-template", messages=open_end, continue_final_message=True)
    assert answer.json == {"prompt": "user: é?\nassistant: It is "}


TOOLS = [{"type": "function", "function": {"name": "clock", "description": "Tells the time."}}]


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"tools": TOOLS}, True),
        ({"tools": TOOLS, "tool_choice": "required"}, True),
        ({"tools": TOOLS, "tool_choice": "none"}, False),
        ({"functions": [TOOLS[0]["function"]]}, True),
        ({}, False),
    ],
)
def test_tools_are_part_of_the_prompt(server: FakeServer, fields: dict[str, Any], shown: bool) -> None:
    prompt = server.post("/apply-template", messages=[USER], **fields).json["prompt"]
    assert ("Tells the time." in prompt) is shown
    count = server.post("/tokenize", messages=[USER], **fields).json["count"]
    assert count == len(prompt.encode())
    if fields.get("tool_choice") != "required":  # which the words of the fake engine do not obey
        answer = server.post("/v1/chat/completions", model=MODEL, messages=[USER], max_tokens=1, **fields)
        assert answer.json["usage"]["prompt_tokens"] == count


@pytest.mark.parametrize(
    ("path", "fields", "expected"),
    [
        ("/tokenize", {}, ("prompt", "missing_required_parameter")),
        ("/tokenize", {"prompt": None}, ("prompt", "missing_required_parameter")),
        ("/tokenize", {"prompt": 1}, ("prompt", "invalid_type")),
        ("/tokenize", {"prompt": ["a"]}, ("prompt", "invalid_type")),
        ("/tokenize", {"prompt": "a", "content": "a"}, ("content", "invalid_value")),
        ("/tokenize", {"prompt": "a", "add_special_tokens": 1}, ("add_special_tokens", "invalid_type")),
        (
            "/tokenize",
            {"prompt": "a", "add_special_tokens": True, "add_special": False},
            ("add_special", "invalid_value"),
        ),
        ("/tokenize", {"prompt": "a", "with_pieces": True}, ("with_pieces", "unsupported_parameter")),
        ("/tokenize", {"prompt": "a", "parse_special": False}, ("parse_special", "unsupported_parameter")),
        ("/tokenize", {"prompt": "a", "foo": 1}, ("foo", "unknown_parameter")),
        ("/tokenize", {"messages": []}, ("messages", "empty_array")),
        ("/tokenize", {"messages": [USER], "prompt": "a"}, ("prompt", "unknown_parameter")),
        ("/tokenize", {"model": "other", "prompt": "a"}, ("model", "model_not_found")),
        ("/tokenize", {"model": "other", "messages": [USER]}, ("model", "model_not_found")),
        ("/tokenize", {"messages": [USER], "chat_template": "x"}, ("chat_template", "unsupported_parameter")),
        (
            "/tokenize",
            {"messages": [USER], "add_special_tokens": True},
            ("add_special_tokens", "unsupported_parameter"),
        ),
        ("/tokenize", {"messages": [USER], "parallel_tool_calls": 1}, ("parallel_tool_calls", "invalid_type")),
        ("/detokenize", {"model": "other", "tokens": []}, ("model", "model_not_found")),
        ("/detokenize", {}, ("tokens", "missing_required_parameter")),
        ("/detokenize", {"tokens": "a"}, ("tokens", "invalid_type")),
        ("/detokenize", {"tokens": [True]}, ("tokens[0]", "invalid_type")),
        ("/detokenize", {"tokens": [1.5]}, ("tokens[0]", "invalid_type")),
        ("/detokenize", {"tokens": [1, -1]}, ("tokens[1]", "integer_below_min_value")),
        ("/detokenize", {"tokens": [7] * 5000 + ["a"]}, ("tokens[5000]", "invalid_type")),
        ("/detokenize", {"tokens": [7] * 5000 + [-1]}, ("tokens[5000]", "integer_below_min_value")),
        ("/detokenize", {"tokens": [256]}, ("tokens", "invalid_value")),
        ("/detokenize", {"tokens": [1 << 31]}, ("tokens[0]", "integer_above_max_value")),
        ("/tokenize", {"messages": [USER], "tools": [*TOOLS, *TOOLS]}, ("tools", "invalid_value")),
        ("/tokenize", {"messages": [USER], "tool_choice": "required"}, ("tool_choice", "invalid_value")),
        ("/tokenize", {"prompt": "a", "tools": TOOLS}, ("tools", "unknown_parameter")),
        ("/apply-template", {"model": "other", "messages": [USER]}, ("model", "model_not_found")),
        ("/apply-template", {}, ("messages", "missing_required_parameter")),
        ("/apply-template", {"messages": [USER], "chat_template": "x"}, ("chat_template", "unsupported_parameter")),
    ],
)
def test_an_invalid_request_is_refused(
    server: FakeServer, path: str, fields: dict[str, Any], expected: tuple[str, str]
) -> None:
    status = 404 if expected[1] == "model_not_found" else 400
    assert server.post(path, **fields).error == (status, BAD, *expected)


LONG = "a" * 200_000  # the fake server's tokens are bytes and its context is 512
LONG_USER = {"role": "user", "content": LONG}


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("/tokenize", {"prompt": LONG}, "prompt"),
        ("/tokenize", {"content": LONG}, "content"),
        ("/tokenize", {"messages": [LONG_USER]}, "messages"),
        ("/apply-template", {"messages": [LONG_USER]}, "messages"),
        ("/detokenize", {"tokens": [97] * 200_000}, "tokens"),
        ("/v1/completions", {"model": MODEL, "prompt": LONG}, "prompt"),
        ("/v1/completions", {"model": MODEL, "prompt": [97] * 200_000}, "prompt"),
        ("/v1/chat/completions", {"model": MODEL, "messages": [LONG_USER]}, "messages"),
    ],
)
def test_a_text_far_beyond_the_limit_is_refused(
    server: FakeServer, path: str, fields: dict[str, Any], param: str
) -> None:
    answer = server.post(path, **fields)
    assert answer.error == (400, BAD, param, "context_length_exceeded")
    assert ("512" if path.startswith("/v1") else "65536") in answer.json["error"]["message"]


def test_counting_a_text_far_beyond_the_limit_is_refused(server: FakeServer) -> None:
    error = server.post("/v1/messages/count_tokens", model=MODEL, messages=[LONG_USER]).json["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith("prompt is too long: ")
    assert error["message"].endswith(" > 65536 maximum")


def test_a_prompt_beyond_the_context_is_counted(server: FakeServer) -> None:
    text = "a" * 512 * 4
    user = {"role": "user", "content": text}
    assert server.post("/tokenize", prompt=text).json["count"] == len(text)
    assert server.post("/tokenize", messages=[user]).json["count"] == len(f"user: {text}")
    assert server.post("/v1/messages/count_tokens", model=MODEL, messages=[user]).json["input_tokens"] > len(text)
    assert server.post("/detokenize", tokens=[97] * len(text)).json["prompt"] == text
    assert server.post("/apply-template", messages=[user]).json["prompt"] == f"user: {text}"


@pytest.mark.parametrize("path", ["/tokenize", "/detokenize", "/apply-template"])
@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"a":NaN}'])
def test_a_body_that_is_not_a_request_is_refused(server: FakeServer, path: str, body: bytes) -> None:
    answer = server.request("POST", path, body)
    assert answer.status == 400
    assert answer.json["error"]["code"] in ("invalid_json", "invalid_type")


def test_every_route_is_described(server: FakeServer, blank_app: Sanic[Any, Any]) -> None:
    described = server.get("/openapi.json").json
    routed = {
        (method, "/" + re.sub(r"<(\w+):\w+>", r"{\1}", route.path))
        for route in blank_app.router.routes
        if route.path not in (PAGE_ROUTE, PAGE_FILES_ROUTE)  # the web page is no part of the API
        for method in route.methods - {"HEAD", "OPTIONS"}
    }
    assert routed == {
        (method.upper(), path) for path, operations in described["paths"].items() for method in operations
    }


def test_the_description_has_the_fields_that_are_checked(server: FakeServer) -> None:
    described = server.get("/openapi.json").json
    assert described["openapi"] == "3.1.0"
    schemas = described["components"]["schemas"]
    body = described["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    chat = schemas[body["$ref"].rpartition("/")[2]]
    assert chat["properties"].keys() == ChatCompletionRequest.model_fields.keys()
    assert chat["additionalProperties"] == {"type": "null"}
    assert set(chat["required"]) == {"model", "messages"}
    assert chat["properties"]["length_penalty"] == {
        "default": None,
        "enum": [None, 1],
        "title": "Length Penalty",
        "x-refused": True,
    }
    references = {part.partition('"')[0] for part in json.dumps(described).split('"#/components/schemas/')[1:]}
    assert references <= schemas.keys()
