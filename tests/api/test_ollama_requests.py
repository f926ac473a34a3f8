"""Ollama's requests: what they mean in neutral form, and what infrs refuses by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infrs.api.common.conversation import Call, ChatTask, Turn
from infrs.api.common.fields import parse_body
from infrs.api.common.ignored import ignored
from infrs.api.ollama.convert import to_chat_task, to_prompt_task
from infrs.api.ollama.request import (
    AnswerRequest,
    OllamaChatRequest,
    OllamaEmbedRequest,
    OllamaGenerateRequest,
    OllamaShowRequest,
)
from infrs.errors import RequestError

USER = {"role": "user", "content": "hi"}
CALL = {"function": {"name": "find", "arguments": {"city": "Köln"}}}
ASKS = {"role": "assistant", "content": "", "tool_calls": [CALL, {**CALL, "id": "mine"}]}
SWITCH, EFFORT = frozenset({"enable_thinking"}), frozenset({"reasoning_effort"})


def chat(**fields: Any) -> OllamaChatRequest:
    return parse_body(OllamaChatRequest, {"model": "m", "messages": [USER], **fields})


def generate(**fields: Any) -> OllamaGenerateRequest:
    return parse_body(OllamaGenerateRequest, {"model": "m", "prompt": "hi", **fields})


def task(variables: frozenset[str] = SWITCH, *, thinks: bool = True, **fields: Any) -> ChatTask:
    return to_chat_task(chat(**fields), variables=variables, thinks=thinks)


@pytest.mark.parametrize(
    ("options", "sampling"),
    [
        ({}, {}),
        ({"temperature": 0, "top_p": 0.5, "min_p": 0.1, "typical_p": 0.9}, None),
        ({"presence_penalty": 1, "frequency_penalty": -1, "seed": 7, "top_k": 4}, None),
        ({"top_k": -1}, {"top_k": 0}),
        ({"seed": -1}, {}),
        ({"seed": -2}, {"seed": (1 << 64) - 2}),
        ({"repeat_penalty": 1.1, "repeat_last_n": -1}, {"repetition_penalty": 1.1}),
        (
            {"repeat_penalty": 1.1, "presence_penalty": 1, "repeat_last_n": 0},
            {"repetition_penalty": 1, "presence_penalty": 0, "frequency_penalty": 0},
        ),
        ({"num_ctx": 4096, "num_gpu": -1, "num_thread": 4, "use_mmap": True, "mirostat": 0, "tfs_z": 1.0}, {}),
    ],
)
def test_options_are_sampling_parameters(options: dict[str, Any], sampling: dict[str, Any] | None) -> None:
    assert task(options=options).options.sampling == (options if sampling is None else sampling)


@pytest.mark.parametrize(("given", "most"), [(None, None), (-1, None), (-2, None), (0, None), (5, 5)])
def test_num_predict_limits_the_answer_if_it_is_positive(given: int | None, most: int | None) -> None:
    assert task(options={"num_predict": given}).options.max_tokens == most


def test_parameters_outside_of_the_options_are_honoured_unless_the_options_have_them() -> None:
    outside = {"temperature": 0.5, "top_p": 0.9, "max_output_tokens": 7}
    plain, both = task(**outside).options, task(**outside, options={"temperature": 0, "num_predict": 3}).options
    assert (plain.sampling, plain.max_tokens) == ({"temperature": 0.5, "top_p": 0.9}, 7)
    assert (both.sampling, both.max_tokens) == ({"temperature": 0, "top_p": 0.9}, 3)


def test_stop_is_a_string_or_several() -> None:
    assert task(options={"stop": "a"}).options.stop == ("a",)
    assert task(options={"stop": ["a", "b"]}).options.stop == ("a", "b")


@pytest.mark.parametrize(("stream", "streams"), [({}, True), ({"stream": None}, True), ({"stream": False}, False)])
def test_an_answer_is_streamed_unless_the_client_refuses(stream: dict[str, Any], streams: bool) -> None:
    assert task(**stream).options.stream is streams


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"options": {"foo": 1}}, "options.foo"),
        ({"options": {"temperature": 3}}, "options.temperature"),
        ({"options": {"mirostat": 2}}, "options.mirostat"),
        ({"options": {"repeat_penalty": 1.1, "repeat_last_n": 64}}, "options.repeat_last_n"),
        ({"options": {"rope_frequency_base": 1e6}}, "options.rope_frequency_base"),
        ({"format": "yaml"}, "format"),
        ({"think": "much"}, "think"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"messages": [{**USER, "images": ["YQ=="]}]}, "messages[0].images"),
        ({"messages": [{"role": "robot", "content": ""}]}, "messages[0].role"),
        ({"messages": [{**USER, "tool_calls": [CALL]}]}, "messages[0].tool_calls"),
        ({"messages": [{**USER, "tool_name": "find"}]}, "messages[0].tool_name"),
        ({"messages": [USER, ASKS]}, "messages"),
        ({"messages": [USER, {"role": "assistant", "content": "It"}], "format": "json"}, "format"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]}, None),
        ({"tools": [{"type": "function", "function": {"name": "f"}}] * 2}, "tools"),
    ],
)
def test_a_field_of_a_chat_that_infrs_lacks_is_refused_by_name(fields: dict[str, Any], param: str | None) -> None:
    with pytest.raises(RequestError) as raised:
        chat(**fields)
    assert raised.value.param == (param or "messages[0].tool_calls[0].function.arguments")


@pytest.mark.parametrize("field", ["template", "context", "images", "width"])
def test_a_field_of_a_prompt_that_infrs_lacks_is_refused_by_name(field: str) -> None:
    with pytest.raises(RequestError) as raised:
        generate(**{field: "YQ=="})
    assert raised.value.param == field
    assert generate(**{field: None}).model == "m"


@pytest.mark.parametrize("field", ["system", "think"])
@pytest.mark.parametrize("plain", [{"raw": True}, {"suffix": "end"}])
def test_plain_text_has_neither_a_system_message_nor_thinking(field: str, plain: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as raised:
        generate(**plain, **{field: "low"})
    assert raised.value.param == field


def test_hints_are_named() -> None:
    body = chat(keep_alive=5.5, truncate=True, options={"num_ctx": 4096, "repeat_last_n": 64, "num_keep": 0})
    assert ignored(body) == ["truncate", "options.repeat_last_n", "options.num_ctx"]
    assert ignored(chat(options={"repeat_last_n": -1, "temperature": 0.5}, shift=False)) == []


@pytest.mark.parametrize(
    ("format", "text"),
    [(None, None), ("", None), ("json", '{"type":"object"}'), ({"type": "array"}, '{"type":"array"}')],
)
def test_a_format_is_a_constraint(format: Any, text: str | None) -> None:
    for constraint in (
        task(format=format).constraint,
        to_prompt_task(generate(format=format), variables=SWITCH, thinks=True).constraint,
    ):
        assert (constraint and constraint.text) == text


def test_calls_get_ids_and_results_belong_to_the_next_open_call() -> None:
    results = [{"role": "tool", "content": "1", "tool_name": "find"}, {"role": "tool", "content": "2"}]
    turns = task(messages=[USER, ASKS, *results]).conversation.turns
    arguments = {"city": "Köln"}
    calls = Call("call_1", "find", arguments), Call("mine", "find", arguments)
    assert turns == (
        Turn("user", "hi"),
        Turn("assistant", "", calls=calls),
        Turn("tool", "1", call_id="call_1"),
        Turn("tool", "2", call_id="mine"),
    )
    swapped = [{"role": "tool", "content": "2", "tool_call_id": "mine"}, {"role": "tool", "content": "1"}]
    assert [turn.call_id for turn in task(messages=[ASKS, *swapped]).conversation.turns[1:]] == ["mine", "call_1"]


@pytest.mark.parametrize("result", [{"tool_name": "other"}, {"tool_call_id": "other"}])
def test_a_result_without_its_call_is_refused(result: dict[str, Any]) -> None:
    for before in ([], [ASKS]):
        messages = [*before, {"role": "tool", "content": "1", **result}]
        with pytest.raises(RequestError, match="no call before it"):
            task(messages=messages)


def test_the_last_message_of_the_assistant_is_continued() -> None:
    conversation = task(messages=[USER, {"role": "assistant", "content": "It is"}]).conversation
    assert (conversation.continue_last, conversation.add_generation_prompt) == (True, False)


def test_reasoning_of_an_earlier_answer_is_kept() -> None:
    turns = task(messages=[{"role": "assistant", "content": "4", "thinking": "2+2"}, USER]).conversation.turns
    assert turns[0] == Turn("assistant", "4", reasoning="2+2")


def test_a_prompt_follows_its_system_message() -> None:
    body = generate(system="Be brief.")
    turns = to_prompt_task(body, variables=SWITCH, thinks=True).conversation.turns
    assert turns == (Turn("system", "Be brief."), Turn("user", "hi"))


@pytest.mark.parametrize(
    ("think", "variables", "expected"),
    [
        (None, SWITCH, ({}, None)),
        ("", SWITCH, ({}, None)),
        (True, SWITCH, ({"enable_thinking": True}, None)),
        (False, SWITCH, ({"enable_thinking": False}, None)),
        ("low", SWITCH, ({"enable_thinking": True}, None)),
        ("low", EFFORT, ({}, "low")),
        (True, EFFORT, ({}, None)),
        (True, frozenset(), ({}, None)),
    ],
)
def test_think_goes_to_the_template_of_a_model_that_thinks(
    think: Any, variables: frozenset[str], expected: Any
) -> None:
    conversation = task(variables, think=think).conversation
    assert (conversation.variables, conversation.reasoning_effort) == expected


def test_thinking_that_the_model_cannot_follow_is_refused() -> None:
    assert task(think=False, thinks=False).conversation.variables == {}
    with pytest.raises(RequestError, match='"m" does not support thinking'):
        task(think=True, thinks=False)
    with pytest.raises(RequestError, match="m always thinks"):
        task(frozenset(), think=False)


def test_a_model_is_required_under_either_name() -> None:
    assert parse_body(OllamaShowRequest, {"name": "m"}).model_name == "m"
    for kind in (OllamaShowRequest, OllamaChatRequest, OllamaEmbedRequest):
        with pytest.raises(RequestError, match="model") as raised:
            parse_body(kind, {"input": "x"} if kind is OllamaEmbedRequest else {})
        assert raised.value.code == "missing_required_parameter"


def test_every_option_of_the_client_is_known() -> None:
    """The fields of Ollama's own requests, so that no client gets an error for a field of its API."""
    sent = json.loads(
        '{"stream": true, "format": "", "options": {}, "keep_alive": "5m", "think": false, "logprobs": false,'
        ' "top_logprobs": 0, "truncate": false, "shift": false}'
    )
    for body in (chat(**sent, tools=[]), generate(**sent, raw=False, suffix="", system="", template="", context=[])):
        assert isinstance(body, AnswerRequest)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (300, 300.0),
        (0.5, 0.5),
        (0, 0.0),
        (-1, -1.0),
        (-7.5, -1.0),
        (1e300, float(1 << 24)),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        ("250ms", 0.25),
        ("300", 300.0),
        ("0", 0.0),
        ("-1", -1.0),
        ("-1m", -1.0),
        ("", None),
        (None, None),
    ],
)
def test_keep_alive_is_a_number_of_seconds_or_a_duration(given: object, seconds: float | None) -> None:
    body = parse_body(OllamaChatRequest, {"model": "m", "keep_alive": given})
    assert body.keep_alive == seconds
