"""The answers of a model, and the chunks of an answer that grows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from infrs.core import Delta


@dataclass(frozen=True, slots=True)
class Output:
    """One answer to a prompt.

    text: "" if the answer only calls tools. reasoning: the reasoning before the answer. tool_calls, logprobs: in the
    shape of OpenAI's API. finish_reason: stop, length or tool_calls.
    """

    index: int
    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    reasoning: str = ""
    tool_calls: Sequence[dict[str, Any]] = ()
    logprobs: Any = None


@dataclass(frozen=True, slots=True)
class RequestOutput:
    """The answers to one prompt. body: the response that the server sends for the same request."""

    prompt_token_ids: tuple[int, ...]
    outputs: tuple[Output, ...]
    body: dict[str, Any]

    @property
    def usage(self) -> dict[str, Any]:
        """The token counts, in OpenAI's shape."""
        usage: dict[str, Any] = self.body["usage"]
        return usage


@dataclass(frozen=True, slots=True)
class Chunk:
    """What a step adds to an answer. tool_calls: changes of calls, in the shape of OpenAI's API."""

    index: int
    text: str
    reasoning: str
    tool_calls: Sequence[dict[str, Any]]
    logprobs: Any
    finish_reason: str | None


@dataclass(frozen=True, slots=True)
class Classification:
    """The class of a text. label: the most likely one. probs: the scores of all labels, in the model's order."""

    label: str
    probs: tuple[float, ...]


def to_output(prompt_ids: Sequence[int], deltas: Sequence[Delta], whole: bytes) -> RequestOutput:
    """Return the answers of a response body. deltas: those that it was made of."""
    body = orjson.loads(whole)
    token_ids: dict[int, list[int]] = {}
    for delta in deltas:
        token_ids.setdefault(delta.index, []).extend(delta.token_ids)
    outputs = tuple(_output(choice, tuple(token_ids.get(choice["index"], ()))) for choice in body["choices"])
    return RequestOutput(tuple(prompt_ids), outputs, body)


def to_chunk(frame: bytes) -> Chunk | None:
    """Return the chunk of a server-sent event; None for the end of the stream."""
    data = frame.removeprefix(b"data: ").rstrip()
    if data == b"[DONE]":
        return None
    choice = orjson.loads(data)["choices"][0]
    delta = choice.get("delta", choice)
    return Chunk(
        choice["index"],
        delta.get("content") or delta.get("text") or "",
        delta.get("reasoning_content") or "",
        tuple(delta.get("tool_calls") or ()),
        choice["logprobs"],
        choice["finish_reason"],
    )


def _output(choice: dict[str, Any], token_ids: tuple[int, ...]) -> Output:
    message = choice.get("message", choice)
    return Output(
        choice["index"],
        message.get("content") or message.get("text") or "",
        token_ids,
        choice["finish_reason"],
        message.get("reasoning_content") or "",
        tuple(message.get("tool_calls") or ()),
        choice["logprobs"],
    )
