import json
import re
from typing import Any

import pytest
from fake_process import FakeServer, fake_server

BAD = "invalid_request_error"


def test_an_answer_has_the_fields_of_a_completion(server: FakeServer) -> None:
    body = server.complete("four", max_tokens=3).json
    assert re.fullmatch("cmpl-[0-9a-f]{24}", body.pop("id"))
    assert body.pop("created") > 1_700_000_000
    assert body.pop("system_fingerprint").startswith("fp_")
    assert body == {
        "object": "text_completion",
        "model": "fake/words",
        "choices": [{"index": 0, "text": "w0 w1 w2 ", "logprobs": None, "finish_reason": "length"}],
        "usage": {
            "prompt_tokens": 4,
            "completion_tokens": 3,
            "total_tokens": 7,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    }


def test_an_answer_has_sixteen_tokens_by_default(server: FakeServer) -> None:
    assert server.complete("four").json["usage"]["completion_tokens"] == 16
    assert server.complete("x" * 505).json["usage"]["completion_tokens"] == 7


def test_a_stream_has_the_chunks_of_a_completion(server: FakeServer) -> None:
    *chunks, usage, done = server.complete("please stop", stream=True, stream_options={"include_usage": True}).events
    assert done == "[DONE]"
    assert usage["usage"]["completion_tokens"] == 4
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}
    assert [chunk["choices"][0]["text"] for chunk in chunks] == [f"w{i} " for i in range(4)]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * 3 + ["stop"]
    assert all(chunk["usage"] is None for chunk in chunks)


@pytest.mark.parametrize(
    "prompts", [["echo a", "echo b"], [list(b"echo a"), list(b"echo b")]], ids=["strings", "token ids"]
)
@pytest.mark.parametrize("stream", [False, True])
def test_choices_are_ordered_by_prompt_and_answer(server: FakeServer, prompts: object, stream: bool) -> None:
    answer = server.complete(prompts, n=2, max_tokens=1, stream=stream)
    events = answer.events[:-1] if stream else [answer.json]
    choices = sorted((choice for event in events for choice in event["choices"]), key=lambda choice: choice["index"])
    assert [(choice["index"], choice["text"]) for choice in choices] == [
        (0, "echo a"), (1, "1echo a"), (2, "echo b"), (3, "1echo b")
    ]  # fmt: skip


def test_token_ids_are_one_prompt(server: FakeServer) -> None:
    assert server.complete(list(b"echo a"), max_tokens=1).json["choices"][0]["text"] == "echo a"


def test_usage_counts_each_prompt_once(server: FakeServer) -> None:
    usage = server.complete(["four", "five!"], n=3, max_tokens=2).json["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (9, 12)


def test_echo_returns_the_prompt_before_the_answer(server: FakeServer) -> None:
    assert server.complete("four ", echo=True, max_tokens=1).json["choices"][0]["text"] == "four w0 "
    events = server.complete("four ", echo=True, max_tokens=2, stream=True, n=2).events[:-1]
    for index, expected in enumerate(["four w0 w1 ", "four 1w0 1w1 "]):
        texts = [event["choices"][0]["text"] for event in events if event["choices"][0]["index"] == index]
        assert "".join(texts) == expected


def test_echo_without_new_tokens_returns_the_prompt(server: FakeServer) -> None:
    body = server.complete("four", echo=True, max_tokens=0, logprobs=1).json
    choice = body["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == ("four", "length")
    assert body["usage"]["completion_tokens"] == 0
    assert choice["logprobs"] == {
        "tokens": ["f", "o", "u", "r"],
        "token_logprobs": [None, -111 / 256, -117 / 256, -114 / 256],
        "top_logprobs": [
            None,
            *({"a": -97 / 256, token: -ord(token) / 256} for token in "our"),
        ],
        "text_offset": [0, 1, 2, 3],
    }


def test_echo_with_logprobs_scores_the_prompt(server: FakeServer) -> None:
    """lm-eval's loglikelihood reads the scores of the continuation's tokens, without the generated token."""
    context, continuation = list("naïve ".encode()), list("é!".encode())
    logprobs = server.complete(
        [context + continuation], echo=True, logprobs=1, max_tokens=1, temperature=0, seed=1234
    ).json["choices"][0]["logprobs"]
    scores = logprobs["token_logprobs"][len(context) : -1]
    made = len("w0 ") - 1  # the fake's one token of three bytes has an entry for each
    assert scores[: len(scores) - made] == [-byte / 256 for byte in continuation]
    assert logprobs["tokens"][2:4] == ["bytes:\\xc3", "bytes:\\xaf"]
    assert logprobs["text_offset"][:6] == [0, 1, 2, 2, 3, 4]


def test_streamed_log_probabilities_are_those_of_the_whole(server: FakeServer) -> None:
    fields: dict[str, Any] = {"logprobs": 2, "max_tokens": 3, "n": 2, "echo": True}
    for prompt in ("four", ["four", "five"]):
        whole = server.complete(prompt, **fields).json["choices"]
        events = server.complete(prompt, stream=True, **fields).events[:-1]
        for index, expected in enumerate(whole):
            choices = [event["choices"][0] for event in events if event["choices"][0]["index"] == index]
            for name, values in expected["logprobs"].items():
                assert [value for choice in choices for value in choice["logprobs"][name]] == values
            assert "".join(choice["text"] for choice in choices) == expected["text"]


def test_best_of_returns_the_likeliest_answers(server: FakeServer) -> None:
    """The fake's digits are likelier than its letters, and 1 than 2: its answers 1, 2, ... rank by their digit."""
    body = server.complete("four", n=2, best_of=4, max_tokens=2).json
    assert [choice["index"] for choice in body["choices"]] == [0, 1]
    assert [choice["text"] for choice in body["choices"]] == ["1w0 1w1 ", "2w0 2w1 "]
    assert [choice["logprobs"] for choice in body["choices"]] == [None, None]
    assert body["usage"]["completion_tokens"] == 8


def test_a_suffix_is_part_of_the_prompt() -> None:
    with fake_server(engine="synthetic") as real:
        answer = real.complete("ab", suffix="c", max_tokens=2, temperature=0).json
        ids = [94, *real.post("/tokenize", content="ab").json["tokens"], 95]
        ids += [*real.post("/tokenize", content="c").json["tokens"], 96]
        begin = [0]
        assert answer["usage"]["prompt_tokens"] == len(begin + ids)
        same = real.complete(begin + ids, max_tokens=2, temperature=0).json
        assert same["choices"] == answer["choices"]
        too_long = real.complete("a", suffix="x" * 50_000)
        assert too_long.error == (400, BAD, "suffix", "context_length_exceeded")


def test_an_answer_ends_with_the_context(server: FakeServer) -> None:
    answer = server.complete("x" * 100, max_tokens=413).json
    assert (answer["usage"]["completion_tokens"], answer["choices"][0]["finish_reason"]) == (412, "length")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"model": "other"}, (404, BAD, "model", "model_not_found")),
        ({"prompt": ""}, (400, BAD, "prompt", "invalid_value")),
        ({"prompt": [256]}, (400, BAD, "prompt", "invalid_value")),
        ({"prompt": [[1], [-1]]}, (400, BAD, "prompt", "invalid_value")),
        ({"prompt": [1 << 31]}, (400, BAD, "prompt", "invalid_value")),
        ({"prompt": "x" * 512}, (400, BAD, "prompt", "context_length_exceeded")),
        ({"suffix": "x"}, (400, BAD, "suffix", "unsupported_parameter")),
        ({"prompt": ["a"] * 65}, (400, BAD, "prompt", "array_above_max_length")),
        ({"foo": 1}, (400, BAD, "foo", "unknown_parameter")),
    ],
)
def test_an_invalid_request_is_refused(
    server: FakeServer, fields: dict[str, object], expected: tuple[object, ...], stream: bool
) -> None:
    assert server.post(
        "/v1/completions", **{"model": "fake/words", "prompt": "hi", **fields, "stream": stream}
    ).error == (expected)


def test_prompts_start_together_or_not_at_all() -> None:
    with fake_server(rows=1, max_queue=1, interval=0.05) as busy:
        answer = busy.complete(["a", "b", "c"])
        assert answer.error == (400, BAD, "prompt", "array_above_max_length")
        assert busy.complete(["a", "b"], max_tokens=1).status == 200
        busy.wait_idle()


def test_a_failing_prompt_fails_the_request(server: FakeServer) -> None:
    assert server.complete(["hi", "boom"]).error == (500, "server_error", None, "engine_error")
    events = server.complete(["hi", "boom"], stream=True).events
    assert events[-1]["error"]["code"] == "engine_error"
    server.wait_idle()


def test_sampling_fields_reach_the_engine(server: FakeServer) -> None:
    def seen(**fields: object) -> list[object]:
        choice = server.complete("seen", **{"max_tokens": 1, **fields}).json["choices"][0]
        return list(json.loads(choice["text"]))

    assert seen() == [1, [], False, 1.0, 1.0, 0, 0.0, None, [1.0, 0, 0, 1.0, []], [0, [], 1]]
    assert seen(
        max_tokens=2, stop=["x"], ignore_eos=True, temperature=0, top_p=0.5, top_k=3, min_p=0.1, seed=7, typical_p=0.7,
        presence_penalty=-1, frequency_penalty=0.5, repetition_penalty=1.5, logit_bias={"5": 1, "255": -100},
        min_tokens=1, stop_token_ids=[3, 2, 3], n=2,
    ) == [
        2, ["x"], True, 0.0, 0.5, 3, 0.1, 7, [0.7, -1.0, 0.5, 1.5, [[5, 1.0], [255, -100.0]]], [1, [2, 3], 2]
    ]  # fmt: skip
