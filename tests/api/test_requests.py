import pytest
from hypothesis import given
from hypothesis import strategies as st

from infrs.api.chat.convert import to_task
from infrs.api.chat.request import ChatCompletionRequest, parse_chat_request
from infrs.errors import RequestError

USER = {"role": "user", "content": "hi"}
ASSISTANT = {"role": "assistant", "content": "4"}
ABSENT = object()


def body(**fields: object) -> dict[str, object]:
    whole: dict[str, object] = {"model": "m", "messages": [USER], **fields}
    return {key: value for key, value in whole.items() if value is not ABSENT}


def message(**fields: object) -> dict[str, object]:
    return body(messages=[{**USER, **fields}])


NEUTRAL = [
    {"n": 1},
    {"best_of": 1},
    {"frequency_penalty": 0},
    {"frequency_penalty": 0.0},
    {"presence_penalty": 0},
    {"repetition_penalty": 1.0},
    {"logit_bias": {}},
    {"logprobs": False},
    {"top_logprobs": 0},
    {"tools": []},
    {"tool_choice": "auto"},
    {"tool_choice": "none"},
    {"function_call": "auto"},
    {"parallel_tool_calls": False},
    {"response_format": {"type": "json_object"}},
    {"functions": []},
    {"response_format": {"type": "text"}},
    {"modalities": ["text"]},
    {"metadata": {}},
    {"store": False},
    {"service_tier": "auto"},
    {"parallel_tool_calls": True},
    {"user": "someone"},
    {"stop": []},
    {"store": True},
    {"verbosity": "low"},
    {"service_tier": "priority"},
    {"prompt_cache_retention": "24h"},
    {"prediction": {"type": "content", "content": "x"}},
]

# Fields that ask for something this server does not do.
UNSUPPORTED = [
    {"modalities": ["text", "audio"]},
    {"audio": {"voice": "alloy"}},
    {"web_search_options": {}},
    {"moderation": {"model": "m"}},
    {"web_search_options": {}},
    {"chat_template": "{{ 1 }}"},
    {"best_of": 2},
]

CALLS = {
    "role": "assistant",
    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "sunny"}
FUNCTION_CALL = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}
FUNCTION_RESULT = {"role": "function", "name": "f", "content": "sunny"}

# (body, param, code)
INVALID = [
    (body(model=ABSENT), "model", "missing_required_parameter"),
    (body(model=None), "model", "invalid_type"),
    (body(model=1), "model", "invalid_type"),
    (body(model=[]), "model", "invalid_type"),
    (body(model=""), "model", "invalid_value"),
    (body(messages=ABSENT), "messages", "missing_required_parameter"),
    (body(messages=None), "messages", "invalid_type"),
    (body(messages={}), "messages", "invalid_type"),
    (body(messages="x"), "messages", "invalid_type"),
    (body(messages=[]), "messages", "empty_array"),
    (body(messages=[USER] * 2049), "messages", "array_above_max_length"),
    (body(messages=[USER, None]), "messages[1]", "invalid_type"),
    (body(messages=["x"]), "messages[0]", "invalid_type"),
    (body(messages=[{"content": "x"}]), "messages[0].role", "missing_required_parameter"),
    (message(role="SYSTEM"), "messages[0].role", "invalid_value"),
    (message(role=1), "messages[0].role", "invalid_value"),
    (message(role="wizard"), "messages[0].role", "invalid_value"),
    (message(role="tool"), "messages[0].tool_call_id", "missing_required_parameter"),
    (message(role="tool", tool_call_id="c1"), "messages[0].tool_call_id", "invalid_value"),
    (body(messages=[USER, CALLS, {**RESULT, "tool_call_id": "c2"}]), "messages[2].tool_call_id", "invalid_value"),
    (body(messages=[USER, RESULT, CALLS]), "messages[1].tool_call_id", "invalid_value"),
    (message(role="function"), "messages[0].name", "missing_required_parameter"),
    (body(messages=[USER, FUNCTION_CALL, {**FUNCTION_RESULT, "name": "g"}]), "messages[2].name", "invalid_value"),
    (body(messages=[USER, FUNCTION_RESULT, FUNCTION_CALL]), "messages[1].name", "invalid_value"),
    (body(messages=[USER, CALLS, FUNCTION_RESULT]), "messages[2].name", "invalid_value"),
    (body(messages=[{"role": "user"}]), "messages[0].content", "missing_required_parameter"),
    (message(content=None), "messages[0].content", "invalid_type"),
    (message(content=5), "messages[0].content", "invalid_type"),
    (message(content=[]), "messages[0].content", "empty_array"),
    (message(content=["x"]), "messages[0].content[0]", "invalid_type"),
    (message(content=[["x"]]), "messages[0].content[0]", "invalid_type"),
    (message(content=[{"type": "text"}]), "messages[0].content[0].text", "missing_required_parameter"),
    (message(content=[{"type": "text", "text": 1}]), "messages[0].content[0].text", "invalid_type"),
    (message(content=[{"type": "foo"}]), "messages[0].content[0].type", "invalid_value"),
    (message(content=[{"type": "image_url"}]), "messages[0].content[0].type", "unsupported_content"),
    (message(content=[{"type": "input_audio"}]), "messages[0].content[0].type", "unsupported_content"),
    (message(content=[{"type": "text", "text": "", "x": 1}]), "messages[0].content[0].x", "unknown_parameter"),
    (message(tool_calls=[{}]), "messages[0].tool_calls[0].id", "missing_required_parameter"),
    (message(foo=1), "messages[0].foo", "unknown_parameter"),
    (body(temperature=-0.1), "temperature", "decimal_below_min_value"),
    (body(temperature=2.1), "temperature", "decimal_above_max_value"),
    (body(temperature=1e308), "temperature", "decimal_above_max_value"),
    (body(top_p=-0.1), "top_p", "decimal_below_min_value"),
    (body(top_p=1.01), "top_p", "decimal_above_max_value"),
    (body(min_p=-1), "min_p", "decimal_below_min_value"),
    (body(min_p=1.5), "min_p", "decimal_above_max_value"),
    (body(top_k=-2), "top_k", "integer_below_min_value"),
    (body(top_k=1 << 31), "top_k", "integer_above_max_value"),
    (body(seed=1 << 63), "seed", "integer_above_max_value"),
    (body(seed=-(1 << 63) - 1), "seed", "integer_below_min_value"),
    (body(seed=float(1 << 64)), "seed", "integer_above_max_value"),  # what orjson makes of 18446744073709551616
    (body(max_tokens=0), "max_tokens", "integer_below_min_value"),
    (body(max_tokens=-1), "max_tokens", "integer_below_min_value"),
    (body(max_tokens=1 << 31), "max_tokens", "integer_above_max_value"),
    (body(max_tokens=1 << 63), "max_tokens", "integer_above_max_value"),
    (body(max_tokens=-float(1 << 64)), "max_tokens", "integer_below_min_value"),
    (body(max_completion_tokens=0), "max_completion_tokens", "integer_below_min_value"),
    (body(max_tokens=3, max_completion_tokens=4), "max_tokens", "invalid_value"),
    (body(stop=[""]), "stop[0]", "invalid_value"),
    (body(stop=["a"] * 65), "stop", "array_above_max_length"),
    (body(stop="x" * 1025), "stop", "string_above_max_length"),
    (body(stop=[1]), "stop[0]", "invalid_type"),
    (body(stop_strings="x"), "stop_strings", "unknown_parameter"),
    (body(stream=False, stream_options={"include_usage": True}), "stream_options", "invalid_value"),
    (body(stream=True, stream_options={"include_usage": 1}), "stream_options.include_usage", "invalid_type"),
    (body(stream=True, stream_options={"x": 1}), "stream_options.x", "unknown_parameter"),
    (body(user="a" * 10_000), "user", "string_above_max_length"),
    (body(user="a\r\nb"), "user", "invalid_value"),
    (body(foo=1), "foo", "unknown_parameter"),
    (body(n=0), "n", "integer_below_min_value"),
    (body(n=-1), "n", "integer_below_min_value"),
    (body(n=129), "n", "integer_above_max_value"),
    (body(n=10**9), "n", "integer_above_max_value"),
    (body(typical_p=0), "typical_p", "decimal_below_min_value"),
    (body(typical_p=1.01), "typical_p", "decimal_above_max_value"),
    (body(presence_penalty=-2.01), "presence_penalty", "decimal_below_min_value"),
    (body(presence_penalty=2.01), "presence_penalty", "decimal_above_max_value"),
    (body(frequency_penalty=-1e308), "frequency_penalty", "decimal_below_min_value"),
    (body(frequency_penalty=1e308), "frequency_penalty", "decimal_above_max_value"),
    (body(repetition_penalty=0), "repetition_penalty", "decimal_below_min_value"),
    (body(repetition_penalty=1e308), "repetition_penalty", "decimal_above_max_value"),
    (body(logit_bias=[]), "logit_bias", "invalid_type"),
    (body(logit_bias={"a": 1}), "logit_bias", "invalid_value"),
    (body(logit_bias={"1.5": 1}), "logit_bias", "invalid_value"),
    (body(logit_bias={"-1": 1}), "logit_bias", "invalid_value"),
    (body(logit_bias={"1": 101}), "logit_bias.1", "decimal_above_max_value"),
    (body(logit_bias={"1": -101}), "logit_bias.1", "decimal_below_min_value"),
    (body(logit_bias={"1": "x"}), "logit_bias.1", "invalid_type"),
    (body(logit_bias={str(i): 1 for i in range(10_000)}), "logit_bias", "array_above_max_length"),
    (body(logprobs=1), "logprobs", "invalid_type"),
    (body(logprobs=True, top_logprobs=21), "top_logprobs", "integer_above_max_value"),
    (body(logprobs=True, top_logprobs=-1), "top_logprobs", "integer_below_min_value"),
    (body(logprobs=True, top_logprobs=True), "top_logprobs", "invalid_type"),
    (body(top_logprobs=5), "top_logprobs", "invalid_value"),
    (body(logprobs=False, top_logprobs=5), "top_logprobs", "invalid_value"),
    (body(min_tokens=-1), "min_tokens", "integer_below_min_value"),
    (body(stop_token_ids=1), "stop_token_ids", "invalid_type"),
    (body(stop_token_ids=[-1]), "stop_token_ids[0]", "integer_below_min_value"),
    (body(stop_token_ids=["1"]), "stop_token_ids[0]", "invalid_type"),
    (body(stop_token_ids=[1] * 65), "stop_token_ids", "array_above_max_length"),
    (body(service_tier="cheap"), "service_tier", "invalid_value"),
    (body(reasoning_effort="extreme"), "reasoning_effort", "invalid_value"),
    (body(safety_identifier="a" * 513), "safety_identifier", "string_above_max_length"),
    (body(prompt_cache_key=1), "prompt_cache_key", "invalid_type"),
    (body(chat_template_kwargs=1), "chat_template_kwargs", "invalid_type"),
    (body(chat_template_kwargs={"chat_template": "x"}), "chat_template_kwargs.chat_template", "unknown_parameter"),
    (body(chat_template_kwargs={"tokenize": True}), "chat_template_kwargs.tokenize", "unknown_parameter"),
    (body(chat_template_kwargs={"messages": []}), "chat_template_kwargs.messages", "unknown_parameter"),
    (body(chat_template_kwargs={"tools": []}), "chat_template_kwargs.tools", "unknown_parameter"),
    (body(chat_template_kwargs={"enable_thinking": []}), "chat_template_kwargs.enable_thinking", "invalid_type"),
    (body(continue_final_message=True), "continue_final_message", "invalid_value"),
    (body(add_generation_prompt=1), "add_generation_prompt", "invalid_type"),
    (
        body(messages=[USER, ASSISTANT], continue_final_message=True, add_generation_prompt=True),
        "continue_final_message",
        "invalid_value",
    ),
    (
        body(stream=True, stream_options={"continuous_usage_stats": True}),
        "stream_options.continuous_usage_stats",
        "invalid_value",
    ),
    (body(__class__=1), "__class__", "unknown_parameter"),
]

TYPES: dict[str, list[object]] = {
    "a number": [True, "1", [], {}, [1]],
    "an integer": [True, "1", [], {}, 1.5],
    "true or false": [1, 0, "true", [], {}, 1.0],
    "a string": [1, True, [], {}],
}
FIELDS = {
    "temperature": "a number",
    "top_p": "a number",
    "min_p": "a number",
    "typical_p": "a number",
    "presence_penalty": "a number",
    "frequency_penalty": "a number",
    "repetition_penalty": "a number",
    "n": "an integer",
    "min_tokens": "an integer",
    "logprobs": "true or false",
    "continue_final_message": "true or false",
    "top_k": "an integer",
    "seed": "an integer",
    "max_tokens": "an integer",
    "max_completion_tokens": "an integer",
    "stream": "true or false",
    "ignore_eos": "true or false",
    "user": "a string",
}


def refusal(payload: dict[str, object]) -> RequestError:
    with pytest.raises(RequestError) as caught:
        parse_chat_request(payload)
    assert len(caught.value.message) <= 500
    assert "\n" not in caught.value.message
    return caught.value


@pytest.mark.parametrize("extra", NEUTRAL, ids=str)
def test_fields_without_effect_are_accepted(extra: dict[str, object]) -> None:
    assert isinstance(parse_chat_request(body(**extra)), ChatCompletionRequest)


@pytest.mark.parametrize("name", sorted(ChatCompletionRequest.model_fields.keys() - {"model", "messages"}))
def test_null_is_absent(name: str) -> None:
    assert parse_chat_request(body(**{name: None})) == parse_chat_request(body())


@pytest.mark.parametrize("extra", UNSUPPORTED, ids=str)
def test_an_unsupported_field_is_refused_by_name(extra: dict[str, object]) -> None:
    error = refusal(body(**extra))
    (name,) = extra
    assert (error.param, error.code) == (name, "unsupported_parameter")
    assert name in error.message


@pytest.mark.parametrize(("payload", "param", "code"), INVALID, ids=[f"{p}-{c}" for _, p, c in INVALID])
def test_invalid_values(payload: dict[str, object], param: str, code: str) -> None:
    error = refusal(payload)
    assert (error.param, error.code) == (param, code)
    assert error.message.startswith(param)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (body(max_token=5), "max_token is not a parameter of this endpoint; did you mean max_tokens?"),
        (body(moderations=5), "moderations is not a parameter of this endpoint; remove it"),  # nor is `moderation`
        (message(foo="x"), "messages[0].foo is not a parameter of this endpoint; remove it"),
        (body(messages=[]), "messages: expected at least 1, not 0"),
        (body(stop=["a"] * 65), "stop: expected at most 64, not 65"),
        (body(stop=5), "stop: 5 is not allowed: expected a string or an array of strings"),
        (
            body(response_format={"type": "json_schema"}),
            "response_format.json_schema: required with type json_schema",
        ),
        (
            body(response_format={"type": "text", "json_schema": {"name": "a", "schema": {}}}),
            "response_format.json_schema: goes with type json_schema, and with no other",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_message_says_what_to_do(payload: dict[str, object], message: str) -> None:
    assert refusal(payload).message == message


@pytest.mark.parametrize(
    ("name", "kind", "value"), [(name, kind, value) for name, kind in FIELDS.items() for value in TYPES[kind]]
)
def test_no_type_is_coerced(name: str, kind: str, value: object) -> None:
    error = refusal(body(**{name: value}))
    assert (error.param, error.code) == (name, "invalid_type")
    assert error.message.endswith(f"expected {kind}")


def test_all_that_is_honoured() -> None:
    parsed = parse_chat_request(
        body(
            messages=[
                {"role": "developer", "content": "d"},
                {"role": "system", "content": "s"},
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
                {"role": "assistant", "content": "", "refusal": None, "tool_calls": [], "annotations": []},
            ],
            stream=True,
            stream_options={"include_usage": True},
            temperature=0,
            top_p=0.5,
            top_k=-1,
            min_p=0.1,
            seed=-1,
            max_tokens=5,
            max_completion_tokens=5,
            stop="x",
            ignore_eos=True,
            typical_p=0.9,
            presence_penalty=-2,
            frequency_penalty=2,
            repetition_penalty=1.1,
            logit_bias={"0": 100, "17": -100.0},
            n=128,
            logprobs=True,
            top_logprobs=20,
            min_tokens=5,
            stop_token_ids=[0, 1],
            service_tier="default",
            metadata={"k" * 64: "v" * 512},
            reasoning_effort="high",
            safety_identifier="s",
            prompt_cache_key="k",
            add_generation_prompt=False,
            chat_template_kwargs={"enable_thinking": False, "date_string": "today"},
        )
    )
    assert [turn.text for turn in parsed.messages] == ["d", "s", "ab", ""]
    assert parsed.stop == ["x"]
    assert parsed.max_output_tokens == 5
    task = to_task(parsed)
    assert (task.options.num_choices, task.options.num_logprobs) == (128, 20)
    assert task.conversation.variables == {"enable_thinking": False, "date_string": "today"}
    assert (task.conversation.reasoning_effort, task.conversation.add_generation_prompt) == ("high", False)


@pytest.mark.parametrize(
    ("options", "include_usage", "usage_in_every_chunk"),
    [
        (None, False, False),
        ({}, False, False),
        ({"include_usage": True}, True, False),
        ({"include_usage": True, "continuous_usage_stats": True}, True, True),
    ],
)
def test_when_a_stream_counts(options: object, include_usage: bool, usage_in_every_chunk: bool) -> None:
    asked = parse_chat_request(body(stream=True, stream_options=options)).options
    assert (asked.include_usage, asked.usage_in_every_chunk) == (include_usage, usage_in_every_chunk)


def test_a_result_comes_after_its_call() -> None:
    parse_chat_request(body(messages=[USER, CALLS, RESULT, USER]))
    parse_chat_request(body(messages=[USER, CALLS, RESULT, USER, RESULT]))
    parse_chat_request(body(messages=[USER, FUNCTION_CALL, FUNCTION_RESULT, USER, FUNCTION_RESULT]))


def test_huge_keys_and_values_are_cut() -> None:
    assert len(refusal(body(**{"k" * 1_000_000: 1})).param or "") <= 128
    assert len(refusal(body(temperature="9" * 1_000_000)).message) < 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda child: st.lists(child, max_size=4) | st.dictionaries(st.text(), child, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(ChatCompletionRequest.model_fields)) | st.text(), JSON, max_size=5))
def test_any_object_is_taken_or_refused_with_a_code(fields: dict[str, object]) -> None:
    payload = {"model": "m", "messages": [USER], **fields}
    try:
        parse_chat_request(payload)
    except RequestError:
        error = refusal(payload)
        assert error.param is not None
