import pytest
from hypothesis import given
from hypothesis import strategies as st

from infrs.errors import RequestError
from infrs.openai.requests import ChatCompletionRequest, parse_chat_request

USER = {"role": "user", "content": "hi"}
ABSENT = object()


def body(**fields: object) -> dict[str, object]:
    whole: dict[str, object] = {"model": "m", "messages": [USER], **fields}
    return {key: value for key, value in whole.items() if value is not ABSENT}


def message(**fields: object) -> dict[str, object]:
    return body(messages=[{**USER, **fields}])


NEUTRAL = [
    {"n": 1},
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
    {"functions": []},
    {"response_format": {"type": "text"}},
    {"modalities": ["text"]},
    {"metadata": {}},
    {"store": False},
    {"service_tier": "auto"},
    {"parallel_tool_calls": True},
    {"user": "someone"},
    {"stop": []},
]

# Fields that ask for something this server does not do.
UNSUPPORTED = [
    {"n": 2},
    {"n": 0},
    {"n": True},
    {"n": 1.0},
    {"n": "1"},
    {"frequency_penalty": 0.1},
    {"frequency_penalty": False},
    {"presence_penalty": -2},
    {"logit_bias": {"5": 1}},
    {"logprobs": True},
    {"top_logprobs": 5},
    {"tools": [{"type": "function"}]},
    {"tool_choice": "required"},
    {"functions": [{}]},
    {"function_call": "auto"},
    {"response_format": {"type": "json_object"}},
    {"modalities": ["text", "audio"]},
    {"audio": {}},
    {"prediction": {}},
    {"metadata": {"a": "b"}},
    {"store": True},
    {"service_tier": "priority"},
    {"reasoning_effort": "high"},
    {"verbosity": "low"},
    {"web_search_options": {}},
    {"prompt_cache_key": "k"},
    {"safety_identifier": "s"},
    {"chat_template": "{{ 1 }}"},
    {"chat_template_kwargs": {"enable_thinking": False}},
    {"repetition_penalty": 1.1},
    {"best_of": 2},
    {"stop_token_ids": [1]},
]

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
    (message(role="tool"), "messages[0].role", "invalid_value"),
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
    (message(name="bob"), "messages[0].name", "unsupported_parameter"),
    (message(tool_calls=[{}]), "messages[0].tool_calls", "unsupported_parameter"),
    (message(foo=1), "messages[0].foo", "unknown_parameter"),
    (body(temperature=-0.1), "temperature", "decimal_below_min_value"),
    (body(temperature=2.1), "temperature", "decimal_above_max_value"),
    (body(temperature=1e308), "temperature", "decimal_above_max_value"),
    (body(top_p=0), "top_p", "decimal_below_min_value"),
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
    (body(stop=""), "stop", "invalid_value"),
    (body(stop=[""]), "stop[0]", "invalid_value"),
    (body(stop=["a"] * 5), "stop", "array_above_max_length"),
    (body(stop="x" * 1025), "stop", "string_above_max_length"),
    (body(stop=[1]), "stop[0]", "invalid_type"),
    (body(stop_strings="x"), "stop_strings", "unknown_parameter"),
    (body(stream_options={}), "stream_options", "invalid_value"),
    (body(stream=False, stream_options={"include_usage": True}), "stream_options", "invalid_value"),
    (body(stream=True, stream_options={"include_usage": 1}), "stream_options.include_usage", "invalid_type"),
    (body(stream=True, stream_options={"x": 1}), "stream_options.x", "unknown_parameter"),
    (
        body(stream=True, stream_options={"include_obfuscation": True}),
        "stream_options.include_obfuscation",
        "unsupported_parameter",
    ),
    (body(user="a" * 10_000), "user", "string_above_max_length"),
    (body(user="a\r\nb"), "user", "invalid_value"),
    (body(foo=1), "foo", "unknown_parameter"),
    (body(__class__=1), "__class__", "unknown_parameter"),
]

TYPES: dict[str, list[object]] = {
    "a number": [True, "1", [], {}, [1]],
    "an integer": [True, "1", [], {}, 1.5, 1.0],
    "true or false": [1, 0, "true", [], {}, 1.0],
    "a string": [1, True, [], {}],
}
FIELDS = {
    "temperature": "a number",
    "top_p": "a number",
    "min_p": "a number",
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
def test_what_asks_for_nothing_is_accepted(extra: dict[str, object]) -> None:
    assert isinstance(parse_chat_request(body(**extra)), ChatCompletionRequest)


@pytest.mark.parametrize("name", sorted(ChatCompletionRequest.model_fields.keys() - {"model", "messages"}))
def test_null_is_absent(name: str) -> None:
    assert parse_chat_request(body(**{name: None})) == parse_chat_request(body())


@pytest.mark.parametrize("extra", UNSUPPORTED, ids=str)
def test_what_is_not_honoured_is_refused_by_name(extra: dict[str, object]) -> None:
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
        )
    )
    assert [turn.text for turn in parsed.messages] == ["d", "s", "ab", ""]
    assert parsed.stop == ["x"]
    assert parsed.max_output_tokens == 5


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
