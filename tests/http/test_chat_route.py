import json
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fake_process import JSON, MODEL, FakeServer, chat_body

PATH = "/v1/chat/completions"
BAD = "invalid_request_error"


def test_an_answer_has_the_fields_of_a_chat_completion(server: FakeServer) -> None:
    body = server.chat("four", max_tokens=3).json
    assert body.pop("id").startswith("chatcmpl-")
    assert body.pop("created") > 1_700_000_000
    assert re.fullmatch("fp_[0-9a-f]{10}", body.pop("system_fingerprint"))
    assert body == {
        "object": "chat.completion",
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "w0 w1 w2 ", "refusal": None},
                "logprobs": None,
                "finish_reason": "length",
            }
        ],
        "usage": {
            "prompt_tokens": 10,
            "completion_tokens": 3,
            "total_tokens": 13,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    }


@pytest.mark.parametrize("include_usage", [False, True])
def test_a_stream_has_the_chunks_of_a_chat_completion(server: FakeServer, include_usage: bool) -> None:
    options = {"stream_options": {"include_usage": True}} if include_usage else {}
    answer = server.chat("please stop", stream=True, **options)
    assert answer.headers["cache-control"] == "no-cache"
    *chunks, done = answer.events
    assert done == "[DONE]"
    assert len({(chunk["id"], chunk["created"], chunk["object"], chunk["model"]) for chunk in chunks}) == 1
    assert chunks[0]["object"] == "chat.completion.chunk"
    assert all(("usage" in chunk) == include_usage for chunk in chunks)
    if include_usage:
        usage = chunks.pop()
        assert usage["choices"] == []
        assert (usage["usage"]["prompt_tokens"], usage["usage"]["completion_tokens"]) == (17, 4)
        assert all(chunk["usage"] is None for chunk in chunks)
    choices = [chunk["choices"][0] for chunk in chunks]
    deltas = [choice["delta"] for choice in choices]
    assert deltas == [
        {"role": "assistant", "content": ""},
        *({"content": f"w{i} "} for i in range(4)),
        {},
    ]
    assert [choice["finish_reason"] for choice in choices] == [None] * 5 + ["stop"]


def test_a_delta_without_text_makes_no_chunk(server: FakeServer) -> None:
    events = server.chat("emoji", stream=True, max_tokens=5).events
    texts = [event["choices"][0]["delta"].get("content") for event in events[:-1]]
    assert texts == ["", "\U0001f600", "\U0001f600", None]


def test_the_text_of_a_stream_equals_the_whole_answer(server: FakeServer) -> None:
    for content in ("hi", "emoji", 'echo \u0000 \u2028 \\ " ü \U0001f600\r\n'):
        whole = server.chat(content, max_tokens=6).json["choices"][0]["message"]["content"]
        events = server.chat(content, max_tokens=6, stream=True).events
        assert "".join(event["choices"][0]["delta"].get("content", "") for event in events[:-1]) == whole


def test_sampling_fields_reach_the_engine(server: FakeServer) -> None:
    def seen(**fields: object) -> list[object]:
        return list(
            json.loads(server.chat("seen", **{"max_tokens": 1, **fields}).json["choices"][0]["message"]["content"])
        )

    assert seen() == [1, ["\nuser:"], False, 1.0, 1.0, 0, 0.0, None, [1.0, 0, 0, 1.0, []], [0, [], 1]]
    assert seen(
        max_tokens=None, max_completion_tokens=2, stop=["x"], ignore_eos=True, temperature=0, top_p=0.5, top_k=3,
        min_p=0.1, seed=7, typical_p=0.7, presence_penalty=-1, frequency_penalty=0.5, repetition_penalty=1.5,
        logit_bias={"5": 1, "255": -100}, min_tokens=1, stop_token_ids=[3, 2, 3], n=2,
    ) == [
        2, ["x", "\nuser:"], True, 0.0, 0.5, 3, 0.1, 7, [0.7, -1.0, 0.5, 1.5, [[5, 1.0], [255, -100.0]]], [1, [2, 3], 2]
    ]  # fmt: skip


def test_an_answer_without_max_tokens_ends_with_the_context(server: FakeServer) -> None:
    usage = server.chat("x" * 500).json["usage"]
    assert usage["total_tokens"] == 512


def test_a_prompt_beyond_the_context_is_refused(server: FakeServer) -> None:
    answer = server.chat("x" * 506)
    assert answer.error == (400, BAD, "messages", "context_length_exceeded")
    assert "512 tokens" in answer.json["error"]["message"]
    for max_tokens in (406, 407, 1 << 30):
        answer = server.chat("x" * 100, max_tokens=max_tokens).json
        assert (answer["usage"]["total_tokens"], answer["choices"][0]["finish_reason"]) == (512, "length")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"model": "other"}, ("model", "model_not_found", 404)),
        ({"model": "Fake/words"}, ("model", "model_not_found", 404)),
        ({"model": "../../etc/passwd\x00\u202e" + "x" * 10_000}, ("model", "model_not_found", 404)),
        ({"messages": []}, ("messages", "empty_array", 400)),
        ({"messages": [{"role": "x", "content": ""}]}, ("messages[0].role", "invalid_value", 400)),
        ({"temperature": 3}, ("temperature", "decimal_above_max_value", 400)),
        ({"n": 129}, ("n", "integer_above_max_value", 400)),
        ({"tools": [{}]}, ("tools[0].function", "missing_required_parameter", 400)),
        ({"logit_bias": {"256": 1}}, ("logit_bias", "invalid_value", 400)),
        ({"stop_token_ids": [256]}, ("stop_token_ids", "invalid_value", 400)),
        ({"min_tokens": 3, "max_tokens": 2}, ("min_tokens", "invalid_value", 400)),
        (
            {"chat_template_kwargs": {"date_string": "today"}},
            ("chat_template_kwargs.date_string", "unsupported_parameter", 400),
        ),
        ({"nonsense": 2}, ("nonsense", "unknown_parameter", 400)),
        ({"max_tokens": 0}, ("max_tokens", "integer_below_min_value", 400)),
    ],
)
def test_refusals_have_their_status_streamed_or_not(
    server: FakeServer, fields: dict[str, object], expected: tuple[str, str, int], stream: bool
) -> None:
    param, code, status = expected
    assert server.chat("hi", stream=stream, **fields).error == (status, BAD, param, code)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"[]", "invalid_type"),
        (b"{", "invalid_json"),
        (b'{"a":NaN}', "invalid_json"),
        (b'{"a":"\\ud800"}', "invalid_unicode"),
        (b'{"a":' * 1000 + b"1" + b"}" * 1000, "json_too_deep"),
    ],
)
def test_a_body_that_is_not_a_request_is_refused(server: FakeServer, body: bytes, code: str) -> None:
    assert server.request("POST", PATH, body).error == (400, BAD, None, code)


@pytest.mark.parametrize(
    "content_type", [None, "application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8"]
)
def test_json_content_types_are_accepted(server: FakeServer, content_type: str | None) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    assert server.request("POST", PATH, chat_body(max_tokens=1), headers).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "application/json; charset=utf-16"},
        {**JSON, "content-encoding": "gzip"},
        {**JSON, "content-encoding": "br"},
    ],
)
def test_other_content_types_are_refused(server: FakeServer, headers: dict[str, str]) -> None:
    answer = server.request("POST", PATH, chat_body(), headers)
    assert answer.error == (415, BAD, None, "unsupported_media_type")


@pytest.mark.parametrize("stream", [False, True])
def test_an_engine_failure_before_the_first_token_is_a_500(server: FakeServer, stream: bool) -> None:
    assert server.chat("boom-first", stream=stream).error == (500, "server_error", None, "engine_error")
    assert server.chat(max_tokens=1).status == 200


def test_an_engine_failure_after_headers_ends_the_stream(server: FakeServer) -> None:
    """The stream ends with an error event and without [DONE]."""
    answer = server.chat("boom", stream=True)
    assert answer.status == 200
    assert [event["choices"][0]["delta"]["content"] for event in answer.events[:-1]] == ["", "w0 ", "w1 "]
    error = answer.events[-1]["error"]
    assert (error["type"], error["code"]) == ("server_error", "engine_error")
    assert "/secret/path" not in error["message"]
    assert server.chat("boom").error == (500, "server_error", None, "engine_error")


def test_many_concurrent_requests_are_answered(server: FakeServer) -> None:
    def ask(i: int) -> str:
        text = f"echo {i}"
        answer = server.chat(text, max_tokens=4, stream=bool(i % 2))
        if i % 2:
            return "".join(event["choices"][0]["delta"].get("content", "") for event in answer.events[:-1])
        return str(answer.json["choices"][0]["message"]["content"])

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(64)))
    assert answers == [f"user: echo {i}" for i in range(64)]
    server.wait_idle()


def test_a_body_of_any_size_is_answered(server: FakeServer) -> None:
    """A body of any size gets an answer, although Sanic reads large ones in parts."""
    for size in (60_000, 65_536, 70_000, 1_000_000):
        assert server.chat("x" * size).error == (400, BAD, "messages", "context_length_exceeded")
        assert "maximum context length is 512 tokens" in server.chat("x" * size).json["error"]["message"]
    whole = chat_body("", max_tokens=1)
    fits = whole[:-1] + b" " * ((4 << 20) - len(whole)) + b"}"
    assert server.request("POST", PATH, fits).status == 200


def contents(events: list[Any], index: int) -> str:
    choices = [choice for event in events for choice in event["choices"] if choice["index"] == index]
    return "".join(choice["delta"].get("content", "") for choice in choices)


def test_several_answers_have_their_own_index(server: FakeServer) -> None:
    body = server.chat("four", max_tokens=3, n=3).json
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    texts = [choice["message"]["content"] for choice in body["choices"]]
    assert texts == ["w0 w1 w2 ", "1w0 1w1 1w2 ", "2w0 2w1 2w2 "]
    assert body["usage"]["prompt_tokens"] == 10
    assert body["usage"]["completion_tokens"] == 9


def test_several_streamed_answers_are_interleaved(server: FakeServer) -> None:
    *events, usage, done = server.chat(
        "four", max_tokens=3, n=3, stream=True, stream_options={"include_usage": True}
    ).events
    assert done == "[DONE]"
    assert usage["usage"]["completion_tokens"] == 9
    assert [contents(events, index) for index in range(3)] == ["w0 w1 w2 ", "1w0 1w1 1w2 ", "2w0 2w1 2w2 "]
    order = [event["choices"][0]["index"] for event in events if event["choices"][0]["delta"].get("content")]
    assert order == [0, 1, 2] * 3
    reasons = [event["choices"][0]["finish_reason"] for event in events]
    assert reasons[-1] == "length"
    assert reasons.count("length") == 3


def test_log_probabilities_are_returned_with_their_tokens(server: FakeServer) -> None:
    choice = server.chat("echo é", logprobs=True, top_logprobs=2, max_tokens=2).json["choices"][0]
    content = choice["logprobs"]["content"]
    assert choice["logprobs"]["refusal"] is None
    assert bytes(byte for entry in content for byte in entry["bytes"]).decode() == choice["message"]["content"]
    assert content[0] == {
        "token": "u",
        "bytes": [117],
        "logprob": -117 / 256,
        "top_logprobs": [
            {"token": "a", "bytes": [97], "logprob": -97 / 256},
            {"token": "b", "bytes": [98], "logprob": -98 / 256},
        ],
    }
    assert content[-1]["token"] == "\ufffd"  # half a character
    assert server.chat(logprobs=True, max_tokens=1).json["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []
    assert server.chat(logprobs=False, max_tokens=1).json["choices"][0]["logprobs"] is None


def test_streamed_log_probabilities_are_those_of_the_whole(server: FakeServer) -> None:
    fields: dict[str, Any] = {"logprobs": True, "top_logprobs": 1, "max_tokens": 4, "n": 2}
    whole = server.chat("hi", **fields).json["choices"]
    events = server.chat("hi", stream=True, **fields).events[:-1]
    for index in (0, 1):
        choices = [event["choices"][0] for event in events if event["choices"][0]["index"] == index]
        assert [choice["logprobs"] is None for choice in choices] == [True, False, False, False, False, True]
        streamed = [entry for choice in choices for entry in (choice["logprobs"] or {"content": []})["content"]]
        assert streamed == whole[index]["logprobs"]["content"]


def test_every_chunk_has_usage_on_request(server: FakeServer) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    events = server.chat("four", stream=True, max_tokens=3, stream_options=options).events[:-1]
    assert [event["usage"]["completion_tokens"] for event in events] == [1, 1, 2, 3, 3, 3]
    assert {event["usage"]["prompt_tokens"] for event in events} == {10}


def test_service_tier_is_returned_when_requested(server: FakeServer) -> None:
    assert server.chat(max_tokens=1, service_tier="auto").json["service_tier"] == "default"
    assert server.chat(max_tokens=1, service_tier="auto", stream=True).events[0]["service_tier"] == "default"
    assert "service_tier" not in server.chat(max_tokens=1).json


def test_the_template_gets_the_variables_that_it_uses(server: FakeServer) -> None:
    def prompt(**fields: object) -> str:
        return str(server.chat("echo", max_tokens=1, **fields).json["choices"][0]["message"]["content"])

    assert prompt() == "user: echo"
    assert prompt(chat_template_kwargs={"enable_thinking": False}) == "thinking: False\nuser: echo"
    assert prompt(reasoning_effort="none") == "user: echo"
    assert prompt(chat_template_kwargs={"thinking": False}) == "user: echo"


def test_a_message_of_the_assistant_is_continued(server: FakeServer) -> None:
    messages = [{"role": "user", "content": "echo"}, {"role": "assistant", "content": " The answer is "}]
    answer = server.chat(messages=messages, continue_final_message=True, max_tokens=1)
    assert answer.json["choices"][0]["message"]["content"] == "user: echo\nassistant:  The answer is "


def test_an_image_is_refused_and_its_address_not_fetched(server: FakeServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.3)
        image = {"type": "image_url", "image_url": {"url": f"http://127.0.0.1:{trap.getsockname()[1]}/a.png"}}
        answer = server.chat(messages=[{"role": "user", "content": [image]}])
        assert answer.error == (400, BAD, "messages[0].content[0].type", "unsupported_content")
        with pytest.raises(TimeoutError):
            trap.accept()
