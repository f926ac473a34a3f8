"""Compare the answers of two versions byte by byte: a fixed set of requests over all routes, to each bundle.

python -m benchmarks.engine.same_answers OLD_CHECKOUT NEW_CHECKOUT BUNDLE...

Ids, times and fingerprints are replaced by their kind before the comparison. Error messages are left out, because a
version may word them better; their status, type, code and param are compared.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import httpx

from benchmarks.lib.checkouts import serving

ANSWER_SECONDS = 120.0

VOLATILE = re.compile(
    r'"(id|item_id|created|created_at|completed_at|system_fingerprint|tool_call_id|call_id|response_id)":("[^"]*"|[0-9.]+)'
)
MESSAGE = re.compile(r'"message":"(?:[^"\\]|\\.)*","type"')

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 12}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}
TRUTH = {"type": "boolean"}
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "size": {"enum": ["S", "M"]},
        "ok": {"type": "boolean"},
    },
    "required": ["name", "size", "ok"],
    "additionalProperties": False,
}
FORM = {"type": "json_schema", "json_schema": {"name": "thing", "strict": True, "schema": SCHEMA}}
HELLO = [{"role": "user", "content": "Name three colours of the rainbow."}]
LONG = [
    {"role": "system", "content": "You are a careful assistant. " * 20},
    {"role": "user", "content": "What is the capital of France?"},
    {"role": "assistant", "content": "Paris."},
    {"role": "user", "content": [{"type": "text", "text": "And of Italy? Repeat: Paris, Rome, Paris, Rome."}]},
]
CALLED = [
    *HELLO,
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Rome"}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "Sunny, 31 degrees."},
]

ANTHROPIC_TOOL = {"name": "get_weather", "input_schema": TOOL["function"]["parameters"]}

Body = dict[str, Any]
Call = tuple[str, str, Body | None]


def chat_bodies() -> Iterator[Body]:
    """Bodies of `/v1/chat/completions`, without the model."""
    for messages in (HELLO, LONG, CALLED):
        for extra in (
            {"temperature": 0},
            {"temperature": 1, "seed": 7},
            {"temperature": 0.8, "seed": 1, "top_p": 0.9, "n": 2, "logprobs": True, "top_logprobs": 3},
        ):
            yield {"messages": messages, "max_tokens": 24, **extra}
    yield {"messages": HELLO, "max_tokens": 24, "seed": 3, "min_p": 0.05, "typical_p": 0.9, "frequency_penalty": 0.5}
    yield {"messages": HELLO, "max_tokens": 24, "temperature": 0, "stop": ["\n", "blue"], "logit_bias": {"100": -5}}
    yield {"messages": HELLO, "max_tokens": 60, "seed": 5, "response_format": FORM}
    yield {"messages": HELLO, "max_tokens": 60, "seed": 5, "tools": [TOOL], "tool_choice": "required"}
    yield {"messages": HELLO, "max_tokens": 24, "seed": 5, "tools": [TOOL]}


def chat_calls(model: str) -> Iterator[Call]:
    """Requests to a chat model, on every route."""
    for body in chat_bodies():
        yield "POST", "/v1/chat/completions", {"model": model, **body}
    for body in [*chat_bodies()][::3]:
        streamed = {"model": model, "stream": True, "stream_options": {"include_usage": True}, **body}
        yield "POST", "/v1/chat/completions", streamed
    text = {"model": model, "prompt": "The three primary colours are", "max_tokens": 16}
    yield "POST", "/v1/completions", {**text, "temperature": 0, "echo": True, "logprobs": 2}
    yield "POST", "/v1/completions", {**text, "seed": 2, "n": 2, "stream": True}
    yield "POST", "/v1/completions", {**text, "prompt": ["One", "Two, three"], "seed": 2}
    for stream in (False, True):
        asked: Body = {"model": model, "max_tokens": 24, "temperature": 1, "top_k": 40, "stream": stream}
        yield "POST", "/v1/messages", {**asked, "temperature": 0, "messages": HELLO, "system": "Be brief."}
        answered = {"model": model, "max_output_tokens": 24, "temperature": 0, "stream": stream}
        yield "POST", "/v1/responses", {**answered, "input": "Name a fruit.", "instructions": "Be brief."}
        yield "POST", "/v1/responses", {**answered, "input": HELLO, "text": {"format": {"type": "json_object"}}}
    yield "POST", "/v1/messages/count_tokens", {"model": model, "messages": HELLO}
    yield "POST", "/tokenize", {"model": model, "prompt": "Grüße, 世界", "return_token_strs": True}
    yield "POST", "/tokenize", {"model": model, "messages": HELLO}
    yield "POST", "/detokenize", {"model": model, "tokens": [1, 2, 300, 4000]}
    yield "POST", "/apply-template", {"model": model, "messages": LONG}
    yield "GET", "/v1/models", None
    yield "GET", f"/v1/models/{model}", None
    begun = [*HELLO, {"role": "assistant", "content": "Red, orange and"}]
    asked = {"model": model, "max_tokens": 16, "temperature": 0}
    yield "POST", "/v1/chat/completions", {**asked, "messages": begun, "continue_final_message": True}
    yield "POST", "/v1/messages", {**asked, "messages": HELLO, "stop_sequences": ["\n"], "tools": [ANTHROPIC_TOOL]}
    yield "POST", "/v1/chat/completions", {"model": "none", "messages": HELLO}
    yield "POST", "/v1/chat/completions", {"model": model, "messages": []}
    yield "POST", "/v1/completions", {"model": model, "prompt": "x", "max_tokens": -1}
    yield "POST", "/v1/embeddings", {"model": model, "input": "x"}


def embedding_calls(model: str) -> Iterator[Call]:
    """Requests to an embedding model."""
    for given in ("one text", ["one text", "another, longer text about colours"], [[1, 2, 3]]):
        for encoding in ("float", "base64"):
            yield "POST", "/v1/embeddings", {"model": model, "input": given, "encoding_format": encoding}
    yield "POST", "/v1/embeddings", {"model": model, "input": ""}
    yield "POST", "/v1/chat/completions", {"model": model, "messages": HELLO}


def comparable(status: int, body: bytes) -> str:
    """Return an answer without what differs from one run to the next."""
    text = MESSAGE.sub('"message":"","type"', body.decode()) if status >= 400 else body.decode()
    return f"{status} " + VOLATILE.sub(r'"\1":0', text)


def answers(checkout: Path, bundle: Path) -> list[tuple[Call, str]]:
    """Send every request to one version."""
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    calls = embedding_calls if manifest.get("kind") == "embedding" else chat_calls
    found = []
    with serving(checkout, bundle) as (url, _), httpx.Client(base_url=url, timeout=ANSWER_SECONDS) as client:
        for method, path, body in calls(manifest["source"]["model_id"]):
            answer = client.request(method, path, json=body)
            found.append(((method, path, body), comparable(answer.status_code, answer.content)))
    return found


@click.command()
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path))
def main(old: Path, new: Path, bundles: tuple[Path, ...]) -> None:
    """Print how many answers are equal, and each pair that is not."""
    count = num_different = 0
    for bundle in bundles:
        pairs = zip(answers(old, bundle), answers(new, bundle), strict=True)
        for ((_, path, body), before), (_, after) in pairs:
            count += 1
            if before != after:
                num_different += 1
                click.echo(f"{bundle.name} {path} {json.dumps(body)[:300]}\n  old {before[:600]}\n  new {after[:600]}")
        click.echo(f"{bundle.name}: {count} requests so far, {num_different} different", err=True)
    click.echo(f"{count} requests, {num_different} with different answers")
    sys.exit(num_different > 0)


if __name__ == "__main__":
    main()
