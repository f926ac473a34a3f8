"""What is streamed is what is not, byte for byte, where the text means something: thoughts, calls, forms.

Twice: texts that hypothesis makes, said by a script and cut into tokens anyhow; and the real engine under grammars.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fake_process import MODEL, FakeServer, fake_server
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic_core import from_json

QUIET = {"access_log": False}
pytestmark = pytest.mark.slow
EXAMPLES = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

ADD = {"type": "object", "properties": {"a": {"enum": ["x", "yz"]}, "b": {"type": "boolean"}}, "required": ["a"]}
SCHEMAS = {"add": ADD, "now": {"type": "object", "properties": {}}}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": schema}} for name, schema in SCHEMAS.items()]

PIECES = [
    *("<think>", "</think>", "<think>\nHm, é.\n</think>\n\n", "</th", "<", " ", "\n", "It is 4.", "😀é", "\\", '"'),
    *("<tool_call>", "</tool_call>", "<tool", "{", "}", "[", "]", '{"name": "add", ', '"arguments": {"a": "😀\\n"'),
    '<tool_call>\n{"name": "add", "arguments": {"a": "x", "b": [1, {"c": "}"}]}}\n</tool_call>\n',
    '<tool_call>{"arguments": {}, "name": "now"}</tool_call>',
    '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>',
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=10).map("".join)


@pytest.fixture(scope="module")
def scripted() -> Iterator[FakeServer]:
    with fake_server(script=Path(__file__).parent / "scripted_server.py", server=QUIET) as running:
        yield running


@pytest.fixture(scope="module")
def real() -> Iterator[FakeServer]:
    with fake_server(engine="synthetic", capacity=1024, rows=4, max_queue=64, server=QUIET) as running:
        yield running


def user(content: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": content}]


def chat_streamed(events: list[Any]) -> list[dict[str, Any]]:
    """Return the choices joined from the chunks of a stream."""
    *chunks, usage, done = events
    assert (done, usage["choices"]) == ("[DONE]", [])
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        (choice,) = chunk["choices"]
        joined = choices.setdefault(
            choice["index"], {"content": "", "reasoning": "", "calls": [], "reason": None, "scores": []}
        )
        assert joined["reason"] is None, "a chunk after the last"
        delta = choice["delta"]
        joined["content"] += delta.get("content") or ""
        joined["reasoning"] += delta.get("reasoning_content") or ""
        for call in delta.get("tool_calls", ()):
            if "id" in call:
                assert call["index"] == len(joined["calls"])
                joined["calls"].append([call["function"]["name"], ""])
            joined["calls"][call["index"]][1] += call["function"]["arguments"]
        joined["reason"] = choice["finish_reason"]
        joined["scores"] += (choice["logprobs"] or {}).get("content") or ()
    return [choices[index] | usage["usage"] for index in sorted(choices)]


def chat_whole(body: Any) -> list[dict[str, Any]]:
    return [
        {
            "content": choice["message"]["content"] or "",
            "reasoning": choice["message"].get("reasoning_content", ""),
            "calls": [
                [call["function"]["name"], call["function"]["arguments"]]
                for call in choice["message"].get("tool_calls", ())
            ],
            "reason": choice["finish_reason"],
            "scores": (choice["logprobs"] or {}).get("content") or [],
        }
        | body["usage"]
        for choice in body["choices"]
    ]


def chat_both_ways(server: FakeServer, **fields: Any) -> list[dict[str, Any]]:
    """Return the choices without cached tokens, after a check that the streamed ones are equal."""
    fields = {"model": MODEL, **fields}
    answer = server.post("/v1/chat/completions", **fields)
    assert answer.status == 200, answer.body
    stream = server.post("/v1/chat/completions", **fields, stream=True, stream_options={"include_usage": True})
    expected, choices = chat_whole(answer.json), chat_streamed(stream.events)
    for choice in (*expected, *choices):
        del choice["prompt_tokens_details"]
    assert choices == expected
    return expected


@EXAMPLES
@given(
    text=TEXTS,
    width=st.integers(0, 6),
    tools=st.sampled_from([{}, {"tools": TOOLS}, {"tools": TOOLS, "tool_choice": "none"}]),
    fields=st.fixed_dictionaries(
        {},
        optional={"max_tokens": st.integers(1, 40), "parallel_tool_calls": st.booleans(), "logprobs": st.just(True)},
    ),
)
def test_scripted_chats_equal_the_whole(
    scripted: FakeServer, text: str, width: int, tools: dict[str, Any], fields: dict[str, Any]
) -> None:
    asked = {"messages": user(f"say:{text}"), **tools, **fields}
    (shown,) = chat_both_ways(scripted, **asked, seed=width)
    assert not shown["calls"] or len(tools) == 1
    assert shown["reason"] in ("length", "tool_calls" if shown["calls"] else "stop")
    if "max_tokens" not in fields:  # however the tokens are cut
        (again,) = chat_both_ways(scripted, **asked, seed=width + 1)
        for part in ("content", "reasoning", "calls"):
            assert again[part] == shown[part]


FORMS = st.sampled_from(
    [
        {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": ADD, "strict": True}}},
        {"response_format": {"type": "json_object"}},
        {"guided_regex": "[ab]{3}(é|😀)*c"},
        {"guided_choice": ["red", "green", "é😀"]},
        {"grammar": 'root ::= "a" | "bb" root'},
        {"tools": TOOLS, "tool_choice": "required"},
        {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False},
        {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "add"}}},
        {"tools": [{"type": "function", "function": {"name": "add", "strict": True, "parameters": ADD}}]},
    ]
)


@EXAMPLES
@given(
    form=FORMS,
    content=st.text("abcdefgh é😀", max_size=8),
    sampling=st.fixed_dictionaries(
        {"n": st.integers(1, 3), "seed": st.integers(0, 99), "temperature": st.sampled_from([0, 0.7, 1.5])},
        optional={"max_tokens": st.integers(1, 60), "logprobs": st.just(True)},
    ),
)
def test_chats_under_grammars_equal_the_whole(
    real: FakeServer, form: Any, content: str, sampling: dict[str, Any]
) -> None:
    shown = chat_both_ways(real, messages=user(content), **form, **{"max_tokens": 90, **sampling})
    assert len(shown) == sampling["n"]
    for choice in shown:
        assert choice["reason"] in ("length", "tool_calls" if choice["calls"] else "stop")
        for name, arguments in choice["calls"]:
            assert name in SCHEMAS
            assert choice["reason"] == "length" or isinstance(json.loads(arguments), dict)


def message_streamed(body: bytes) -> dict[str, Any]:
    """Return the message joined from the events of a stream."""
    shown: dict[str, Any] = {}
    blocks: list[dict[str, Any]] = []
    for frame in body.decode().split("\n\n")[:-1]:
        event = json.loads(frame.split("\ndata: ")[1])
        match event["type"]:
            case "message_start":
                shown = event["message"]
            case "content_block_start":
                assert event["index"] == len(blocks)
                blocks.append({**event["content_block"], "pieces": []})
            case "content_block_delta":
                (piece,) = (value for name, value in event["delta"].items() if name != "type")
                blocks[event["index"]]["pieces"].append(piece)
            case "message_delta":
                shown |= event["delta"] | {"usage": event["usage"]}
    for block in blocks:
        text = "".join(block.pop("pieces"))
        block["input" if block["type"] == "tool_use" else block["type"]] = text
    return without_ids(shown | {"content": blocks})


def without_ids(message: dict[str, Any]) -> dict[str, Any]:
    usage = message["usage"]
    prompt = usage["input_tokens"] + usage["cache_read_input_tokens"]
    blocks = [{name: value for name, value in block.items() if name != "id"} for block in message["content"]]
    rest = {name: value for name, value in message.items() if name not in ("id", "usage", "content")}
    return rest | {"content": blocks, "tokens": (prompt, usage["output_tokens"])}


def messages_both_ways(server: FakeServer, **fields: Any) -> dict[str, Any]:
    """Return the message, after a check that the streamed one is equal."""
    fields = {"model": MODEL, **fields}
    answer = server.post("/v1/messages", **fields)
    assert answer.status == 200, answer.body
    expected = without_ids(answer.json)
    streamed = message_streamed(server.post("/v1/messages", **fields, stream=True).body)
    for block in streamed["content"]:
        if block["type"] == "tool_use":
            try:
                block["input"] = from_json(block["input"] or "{}", allow_partial=True)
            except ValueError:
                block["input"] = {"INVALID_JSON": block["input"]}
    assert streamed == expected
    return expected


MESSAGE_TOOLS = [{"name": name, "input_schema": schema} for name, schema in SCHEMAS.items()]


@EXAMPLES
@given(
    text=TEXTS,
    tools=st.sampled_from([{}, {"tools": MESSAGE_TOOLS}]),
    choice=st.sampled_from([{}, *({"tool_choice": {"type": kind}} for kind in ("none", "any"))]),
    max_tokens=st.integers(1, 80),
)
def test_scripted_messages_equal_the_whole(
    scripted: FakeServer, text: str, tools: Any, choice: Any, max_tokens: int
) -> None:
    asked = {"messages": user(f"say:{text}"), **tools, **(choice if tools else {}), "max_tokens": max_tokens}
    kinds = [block["type"] for block in messages_both_ways(scripted, **asked)["content"]]
    assert all(one != other or one == "tool_use" for one, other in pairwise(kinds))


@EXAMPLES
@given(
    content=st.text("abcdefgh é😀", max_size=8),
    form=st.sampled_from(
        [
            {},
            {"stop_sequences": ["a", "é", "t1"]},
            {"output_config": {"format": {"type": "json_schema", "schema": ADD}}},
            {"tools": MESSAGE_TOOLS, "tool_choice": {"type": "any"}},
            {"tools": MESSAGE_TOOLS, "tool_choice": {"type": "tool", "name": "add"}},
        ]
    ),
    max_tokens=st.integers(1, 60),
)
def test_messages_of_the_real_engine_equal_the_whole(
    real: FakeServer, content: str, form: Any, max_tokens: int
) -> None:
    """Sampling is greedy, because this API has no seed."""
    shown = messages_both_ways(real, messages=user(content), **form, max_tokens=max_tokens, temperature=0)
    assert (shown["stop_reason"] == "stop_sequence") == (shown["stop_sequence"] is not None)
