import pytest
from hypothesis import given
from hypothesis import strategies as st

from infrs.api.completions.request import CompletionRequest, parse_completion_request
from infrs.errors import RequestError

ABSENT = object()


def body(prompt: object = "hi", **fields: object) -> dict[str, object]:
    whole = {"model": "m", "prompt": prompt, **fields}
    return {key: value for key, value in whole.items() if value is not ABSENT}


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("hi", ["hi"]),
        (["hi", "ho"], ["hi", "ho"]),
        ([1, 2], [[1, 2]]),
        ([[1], [2, 3]], [[1], [2, 3]]),
        ([0], [[0]]),
        ([[1] * 3] * 128, [[1] * 3] * 128),
    ],
)
def test_prompts(prompt: object, expected: object) -> None:
    assert parse_completion_request(body(prompt)).prompt == expected


INVALID = [
    (body(ABSENT), "prompt", "missing_required_parameter"),
    (body(None), "prompt", "invalid_type"),
    (body({}), "prompt", "invalid_type"),
    (body(1), "prompt", "invalid_type"),
    (body(True), "prompt", "invalid_type"),
    (body(""), "prompt", "invalid_value"),
    (body([]), "prompt", "empty_array"),
    (body([[]]), "prompt[0]", "empty_array"),
    (body([[], [1]]), "prompt[0]", "empty_array"),
    (body([[1], []]), "prompt[1]", "empty_array"),
    (body(["a", ""]), "prompt[1]", "invalid_value"),
    (body(["a", 1]), "prompt[1]", "invalid_type"),
    (body([1, "a"]), "prompt[0]", "invalid_type"),
    (body([1, 1.5]), "prompt[0]", "invalid_type"),
    (body([True]), "prompt[0]", "invalid_type"),
    (body([[1], "a"]), "prompt[1]", "invalid_type"),
    (body([[1, True]]), "prompt[0][1]", "invalid_type"),
    (body([[1], [1, 2.0]]), "prompt[1][1]", "invalid_type"),
    (body([[[1]]]), "prompt[0][0]", "invalid_type"),
    (body(["a"] * 129), "prompt", "array_above_max_length"),
    (body(["a"] * 3, n=64), "prompt", "array_above_max_length"),
    (body(["a"] * 3, best_of=64), "prompt", "array_above_max_length"),
    (body(max_tokens=0), "max_tokens", "integer_below_min_value"),
    (body(max_tokens=-1), "max_tokens", "integer_below_min_value"),
    (body(logprobs=6), "logprobs", "integer_above_max_value"),
    (body(logprobs=-1), "logprobs", "integer_below_min_value"),
    (body(logprobs=True), "logprobs", "invalid_type"),
    (body(best_of=0), "best_of", "integer_below_min_value"),
    (body(best_of=129), "best_of", "integer_above_max_value"),
    (body(best_of=1, n=2), "best_of", "invalid_value"),
    (body(best_of=3, n=2, stream=True), "best_of", "invalid_value"),
    (body(echo=1), "echo", "invalid_type"),
    (body(suffix=1), "suffix", "invalid_type"),
    (body(suffix="x", echo=True), "suffix", "invalid_value"),
    (body([1], suffix="x"), "suffix", "invalid_value"),
    (body(stream_options={"include_usage": True}), "stream_options", "invalid_value"),
    (body(messages=[]), "messages", "unknown_parameter"),
    (body(prompt_logprobs=1), "prompt_logprobs", "unsupported_parameter"),
    (body(top_logprobs=1), "top_logprobs", "unknown_parameter"),
]


@pytest.mark.parametrize(("payload", "param", "code"), INVALID, ids=[f"{p}-{c}" for _, p, c in INVALID])
def test_invalid_values(payload: dict[str, object], param: str, code: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_completion_request(payload)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert caught.value.message.startswith(param)


def test_all_that_is_honoured() -> None:
    parsed = parse_completion_request(
        body(["a", "b"], n=2, best_of=3, echo=True, logprobs=5, max_tokens=0, stop=["x"], seed=1, user="u")
    )
    assert (parsed.num_choices, parsed.max_output_tokens, parsed.scores_prompt) == (3, 0, True)
    assert not parse_completion_request(body(echo=True)).scores_prompt
    assert parse_completion_request(body(best_of=2, n=2, stream=True)).num_choices == 2


@pytest.mark.parametrize("name", sorted(CompletionRequest.model_fields.keys() - {"model", "prompt"}))
def test_null_is_absent(name: str) -> None:
    assert parse_completion_request(body(**{name: None})) == parse_completion_request(body())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda child: st.lists(child, max_size=4) | st.dictionaries(st.text(), child, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(CompletionRequest.model_fields)) | st.text(), JSON, max_size=5))
def test_any_object_is_taken_or_refused_with_a_code(fields: dict[str, object]) -> None:
    payload = {"model": "m", "prompt": "a", **fields}
    try:
        parse_completion_request(payload)
    except RequestError:
        with pytest.raises(RequestError) as caught:
            parse_completion_request(payload)
        assert caught.value.param is not None
        assert len(caught.value.message) <= 500
