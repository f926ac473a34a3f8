import json
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infrs.api.anthropic.message import MessageBlocks
from infrs.api.chat.convert import to_conversation
from infrs.api.chat.message_builder import MessageBuilder
from infrs.api.chat.prompt import template_messages
from infrs.api.chat.request import ChatCompletionRequest, parse_chat_request
from infrs.api.common import errors
from infrs.api.common.engine_request import new_id, to_request
from infrs.api.common.strict_json import BYTES_PER_BYTE, parse_object
from infrs.api.output import bodies, sse
from infrs.api.output.usage import to_finish_reason, to_response_usage, to_usage
from infrs.core import FinishReason, Limits, SamplingParams, Usage
from infrs.errors import (
    BundleError,
    ContextLengthError,
    DrainingError,
    EngineError,
    InfrsError,
    ModelNotFoundError,
    QueueFullError,
    RequestError,
    UnsupportedParameterError,
)
from infrs.text.tools.events import Arguments, CallStart

OF_MODEL: Any = {"limits": Limits(max_model_len=10, vocab_size=20), "defaults": SamplingParams(), "tenant": ""}
BODY = {"model": "m", "messages": [{"role": "developer", "content": "d"}, {"role": "user", "content": "u"}]}


def parsed(**fields: object) -> ChatCompletionRequest:
    return parse_chat_request({**BODY, **fields})


def sampling(defaults: SamplingParams, **fields: object) -> SamplingParams:
    request = to_request(
        parsed(**fields).options, request_id="r", prompt_ids=[1], limits=Limits(10, 20), defaults=defaults, tenant=""
    )
    return request.sampling


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"  \n", "invalid_json"),
        (b"null", "invalid_type"),
        (b"1", "invalid_type"),
        (b'"x"', "invalid_type"),
        (b"[]", "invalid_type"),
        (b'{"a":', "invalid_json"),
        (b'{"a":1,}', "invalid_json"),
        (b'{"a":1 /* no */}', "invalid_json"),
        (b"{'a':1}", "invalid_json"),
        (b"{}{}", "invalid_json"),
        (b"\xef\xbb\xbf\xef\xbb\xbf{}", "invalid_json"),
        ("{}".encode("utf-16"), "invalid_json"),
        (b'{"a":"\xff"}', "invalid_json"),
        (b'{"a":"\xc0\xaf"}', "invalid_json"),
        (b'{"a":"\xed\xa0\x80"}', "invalid_json"),
        (b'{"a":"\\ud800"}', "invalid_unicode"),
        (b'{"a":"\\udc00"}', "invalid_unicode"),
        (b'{"a":"\\udc00\\ud800"}', "invalid_unicode"),
        (b'{"a":"\x01"}', "invalid_json"),
        (b'{"a":NaN}', "invalid_json"),
        (b'{"a":Infinity}', "invalid_json"),
        (b'{"a":1e999}', "invalid_json"),
        (b'{"a":' + b"9" * 5000 + b"}", "invalid_json"),
        (b'{"a":01}', "invalid_json"),
        (b'{"a":+1}', "invalid_json"),
        (b'{"a":.5}', "invalid_json"),
        (b'{"a":0x10}', "invalid_json"),
        (b'{"a":' + b"[" * 64 + b"]" * 64 + b"}", "json_too_deep"),
        (b'{"a":' * 30_000, "json_too_deep"),
        (b'{"a":' * 100_000, "json_too_large"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_bodies_that_are_no_json_object(body: bytes, code: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_object(body)
    assert caught.value.code == code
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    ("body", "place"),
    [(b'{"a":"caf\xe9"}', 9), (b"\xff\xfe{\x00}\x00", 0), ('{"ä":"'.encode() + b'\xed\xa0\x80"}', 7)],
)
def test_the_error_of_invalid_utf8_names_its_byte(body: bytes, place: int) -> None:
    with pytest.raises(RequestError) as caught:
        parse_object(body)
    assert caught.value.message == f"the body is not UTF-8: byte {place} (from 0) begins no character"


def test_bodies_that_are() -> None:
    deep = b'{"a":' + b"[" * 63 + b"]" * 63 + b"}"
    assert list(parse_object(deep)) == ["a"]
    assert list(parse_object(deep[:-1] + b',"b":[]}')) == ["a", "b"]


@pytest.mark.parametrize("item", ["[]", "{}", '{"":0}', '{"ab":{}}', "1.5", "300", '""', '"ab"', '"\\u2603"', "[[[]]]"])
def test_a_body_takes_no_more_memory_than_it_was_given(item: str) -> None:
    """The room that is asked for before orjson begins, which dies where it then lacks some."""
    body = b'{"a":[' + b",".join([item.encode()] * 10_000) + b"]}"
    tracemalloc.start()
    try:
        parse_object(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(body) * BYTES_PER_BYTE
    assert parse_object(b'{"a":1,"a":2}') == {"a": 2}
    wide = b'{"a":[' + b"[]," * 1000 + b"[]]}"
    assert len(parse_object(wide)["a"]) == 1001


def test_a_body_for_which_there_is_no_room_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infrs.api.common.strict_json.BYTES_PER_BYTE", 1 << 60)
    with pytest.raises(MemoryError, match="memory"):
        parse_object(b"{}")


@pytest.mark.parametrize(
    ("error", "status", "kind", "code"),
    [
        (RequestError("m"), 400, "invalid_request_error", "invalid_value"),
        (UnsupportedParameterError("m", param="n"), 400, "invalid_request_error", "unsupported_parameter"),
        (ContextLengthError("m"), 400, "invalid_request_error", "context_length_exceeded"),
        (ModelNotFoundError("m"), 404, "invalid_request_error", "model_not_found"),
        (QueueFullError("m"), 429, "rate_limit_error", "queue_full"),
        (DrainingError("m"), 503, "server_error", "server_draining"),
        (errors.ModelLoadingError("m"), 503, "server_error", "model_loading"),
        (errors.RequestTimeoutError("m"), 503, "server_error", "request_timeout"),
        (EngineError("m"), 500, "server_error", "engine_error"),
        (BundleError("m"), 500, "server_error", "invalid_bundle"),
        (InfrsError("m"), 500, "server_error", "internal_error"),
    ],
)
def test_errors(error: InfrsError, status: int, kind: str, code: str) -> None:
    assert errors.status_of(error) == status
    body = json.loads(errors.body_of(error))
    message = body["error"].pop("message")
    assert body == {"error": {"type": kind, "param": error.param, "code": code}}
    assert (message == "m") == (status != 500)  # what went wrong inside is for the log


def decode(frames: bytes) -> list[Any]:
    assert frames.endswith(b"\n\n")
    events = frames.decode().split("\n\n")[:-1]
    return [json.loads(event.removeprefix("data: ")) for event in events]


HEAD = {"id": "id", "object": "chat.completion.chunk", "created": 7, "model": 'a"b'}


@pytest.mark.nightly("events of a stream")
@pytest.mark.parametrize("include_usage", [False, True], ids=["without usage", "with usage"])
@given(text=st.text())
def test_chunks(include_usage: bool, text: str) -> None:
    chunks = sse.ChatChunks(HEAD, include_usage=include_usage)
    entries = [{"token": text}]
    frames = (
        chunks.role(0)
        + chunks.delta(1, {"content": text})
        + chunks.delta(2, {"content": text}, entries)
        + chunks.finish(3, "stop")
    )
    *choices, usage = decode(frames + chunks.usage({"total_tokens": 1}))
    expected = [
        (0, {"role": "assistant", "content": ""}, None, None),
        (1, {"content": text}, None, None),
        (2, {"content": text}, {"content": entries, "refusal": None}, None),
        (3, {}, None, "stop"),
    ]
    for chunk, (index, delta, logprobs, reason) in zip(choices, expected, strict=True):
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        assert chunk == HEAD | {"choices": [choice]} | ({"usage": None} if include_usage else {})
    assert usage == HEAD | {"choices": [], "usage": {"total_tokens": 1}}


def test_text_chunks() -> None:
    chunks = sse.TextChunks(HEAD, include_usage=False)
    (chunk,) = decode(chunks.text(3, "t", logprobs={"tokens": []}, reason="stop", usage={"total_tokens": 1}))
    choice = {"index": 3, "text": "t", "logprobs": {"tokens": []}, "finish_reason": "stop"}
    assert chunk == HEAD | {"choices": [choice], "usage": {"total_tokens": 1}}


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ('{"a": 1}', {"a": 1}),
        ("", {}),
        ('{"a": 1, "b": [2', {"a": 1, "b": [2]}),
        ("nope", {"INVALID_JSON": "nope"}),
        ("[1]", {"INVALID_JSON": "[1]"}),
    ],
)
def test_the_input_of_a_call_as_anthropics_clients_read_it(arguments: str, shown: object) -> None:
    blocks = MessageBlocks()
    frames = [*blocks.add(CallStart("f")), *blocks.add(Arguments(arguments)), *blocks.close()]
    assert len(frames) == 3
    [block] = blocks.whole()
    assert (block["type"], block["name"], block["input"]) == ("tool_use", "f", shown)


def test_error_event() -> None:
    assert decode(sse.error_event(b'{"error":{}}')) == [{"error": {}}]


def test_completion() -> None:
    usage = to_usage(Usage(3, 4, 2))
    head = bodies.head("chat.completion", answer_id="chatcmpl-1", created=7, model="m", fingerprint="fp_1")
    body = json.loads(
        bodies.completion(head, [bodies.chat_choice(0, MessageBuilder().whole() | {"content": "t"}, "stop")], usage)
    )
    assert body == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 7,
        "model": "m",
        "system_fingerprint": "fp_1",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "t", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 4,
            "total_tokens": 7,
            "prompt_tokens_details": {"cached_tokens": 2},
        },
    }


def test_usage_of_a_response() -> None:
    assert to_response_usage(Usage(3, 4, 2), 1) == {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 7,
    }
    assert to_usage(Usage(3, 4), 1)["completion_tokens_details"] == {"reasoning_tokens": 1}


def test_models() -> None:
    one = {"id": "a/b", "object": "model", "created": 7, "owned_by": "infrs", "max_model_len": 9}
    assert bodies.model("a/b", 7, 9) == one
    assert json.loads(bodies.model_list([one])) == {"object": "list", "data": [one]}


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ('{"a": 1}', {"a": 1}),
        ("", {}),
        ('{"a": ', '{"a": '),
        ("[1]", "[1]"),
        ("[" * 30_000, "[" * 30_000),
    ],
    ids=lambda value: str(value)[:9],
)
def test_arguments_that_are_no_object_stay_as_they_were_written(arguments: str, shown: object) -> None:
    call = {"role": "assistant", "function_call": {"name": "f", "arguments": arguments}}
    [*_, message] = template_messages(to_conversation(parsed(messages=[*BODY["messages"], call])))
    assert message["tool_calls"] == [
        {"id": "call_f", "type": "function", "function": {"name": "f", "arguments": shown}}
    ]


def test_developer_is_system() -> None:
    assert template_messages(to_conversation(parsed())) == [
        {"role": "system", "content": "d"},
        {"role": "user", "content": "u"},
    ]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, SamplingParams()),
        ({"temperature": 0}, SamplingParams(temperature=0.0)),
        ({"top_k": -1}, SamplingParams(top_k=0)),
        (
            {"temperature": 0.5, "top_p": 0.9, "top_k": 4, "min_p": 0.1, "seed": 3},
            SamplingParams(temperature=0.5, top_p=0.9, top_k=4, min_p=0.1, seed=3),
        ),
        ({"seed": -1}, SamplingParams(seed=2**64 - 1)),
        ({"seed": 0}, SamplingParams(seed=0)),
    ],
)
def test_sampling(fields: dict[str, object], expected: SamplingParams) -> None:
    assert sampling(SamplingParams(), **fields) == expected


OWN = SamplingParams(temperature=0.6, top_p=0.95, top_k=20, min_p=0.05, typical_p=0.9, repetition_penalty=1.1)


@pytest.mark.parametrize(
    ("fields", "differs"),
    [
        ({}, {}),
        ({"temperature": None, "top_k": None}, {}),
        ({"temperature": 0}, {"temperature": 0.0}),
        ({"temperature": 1}, {"temperature": 1.0}),
        ({"top_p": 1}, {"top_p": 1.0}),
        ({"top_k": 0}, {"top_k": 0}),
        ({"top_k": -1}, {"top_k": 0}),
        ({"min_p": 0}, {"min_p": 0.0}),
        ({"typical_p": 1}, {"typical_p": 1.0}),
        ({"repetition_penalty": 1}, {"repetition_penalty": 1.0}),
        ({"seed": 3, "presence_penalty": 1}, {"seed": 3, "presence_penalty": 1.0}),
    ],
)
def test_an_absent_sampling_field_takes_the_models_default(fields: dict[str, object], differs: dict[str, Any]) -> None:
    """One that switches something off has said so."""
    assert sampling(OWN, **fields) == replace(OWN, **differs)


def test_the_context_bounds_prompt_and_answer() -> None:
    def ask(num_prompt: int, **fields: object) -> int:
        request = to_request(parsed(**fields).options, request_id="r", prompt_ids=range(num_prompt), **OF_MODEL)
        assert len(request.prompt_ids) == num_prompt
        return request.max_tokens

    assert ask(4) == 6
    assert ask(9) == 1
    assert ask(4, max_tokens=6) == 6
    assert ask(4, max_completion_tokens=2) == 2
    assert ask(4, max_tokens=7) == 6
    assert ask(9, max_completion_tokens=1 << 30) == 1
    for num_prompt in (10, 11):
        with pytest.raises(
            ContextLengthError, match=rf"maximum context length is 10 tokens.* resulted in {num_prompt} tokens"
        ):
            ask(num_prompt)


def test_stops_of_the_client_and_of_the_format() -> None:
    request = to_request(
        parsed(stop=["a", "b"], ignore_eos=True).options,
        request_id="r",
        prompt_ids=[1],
        **OF_MODEL,
        format_stop=("\nuser:",),
    )
    assert (request.stop, request.ignore_eos) == (("a", "b", "\nuser:"), True)


def test_finish_reasons() -> None:
    assert to_finish_reason(FinishReason.STOP) == "stop"
    assert to_finish_reason(FinishReason.LENGTH) == "length"
    for reason in (FinishReason.CANCELLED, FinishReason.ERROR):
        with pytest.raises(ValueError, match=reason.value):
            to_finish_reason(reason)


def test_ids_differ() -> None:
    ids = {new_id("chatcmpl") for _ in range(100)}
    assert len(ids) == 100
    assert all(value.startswith("chatcmpl-") for value in ids)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"logit_bias": {"20": 1}}, "logit_bias"),
        ({"logit_bias": {"9999999999": 1}}, "logit_bias"),
        ({"stop_token_ids": [19, 20]}, "stop_token_ids"),
        ({"min_tokens": 7}, "min_tokens"),
        ({"min_tokens": 3, "max_tokens": 2}, "min_tokens"),
    ],
)
def test_values_outside_the_model_are_refused(fields: dict[str, object], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        to_request(parsed(**fields).options, request_id="r", prompt_ids=range(4), **OF_MODEL)
    assert (caught.value.param, caught.value.code) == (param, "invalid_value")


def test_values_within_the_model_reach_the_engine() -> None:
    fields = {"logit_bias": {"19": 1}, "stop_token_ids": [19], "min_tokens": 6, "n": 3}
    options = parsed(**fields, logprobs=True, top_logprobs=2).options
    request = to_request(options, request_id="r", prompt_ids=range(4), **OF_MODEL)
    assert request.stop_token_ids == {19}
    assert (request.min_tokens, request.num_choices, request.num_logprobs) == (6, 3, 2)
