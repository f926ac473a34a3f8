"""Send a chat request and record when each part of its answer arrives."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import orjson

from infrs.bench.transport import Endpoint, ServerError, events, get_json

Message = dict[str, str]


@dataclass(frozen=True, slots=True)
class Target:
    """A server under load: its name in the report, its endpoint and its model id."""

    name: str
    endpoint: Endpoint
    model: str
    fields: dict[str, Any] = field(default_factory=dict)  # more fields of every request's body


@dataclass(frozen=True, slots=True)
class Asking:
    """The parameters of all requests. timeout: maximum seconds for one answer."""

    max_tokens: int = 64
    timeout: float = 300.0


@dataclass(slots=True)
class Sample:
    """The result of one request. Times are seconds since the start of the load; token counts are the server's own.

    counted: the server sent no counts, so each piece of text counts as a token, and the input has none.
    """

    due: float
    began: float
    ended: float
    arrivals: list[float]  # of each piece of the answer's text
    num_input: int = 0
    num_output: int = 0
    text: str = ""
    error: str | None = None
    counted: bool = False

    @property
    def first(self) -> float:
        """Return the time to first token in seconds, from the time the request was due; 0 without text."""
        return self.arrivals[0] - self.due if self.arrivals else 0.0

    @property
    def total(self) -> float:
        """Return the end-to-end latency in seconds, from the time the request was due."""
        return self.ended - self.due

    @property
    def gaps(self) -> list[float]:
        """Return the seconds between successive pieces of text."""
        return [later - earlier for earlier, later in zip(self.arrivals, self.arrivals[1:], strict=False)]

    @property
    def per_token(self) -> float | None:
        """Return the mean seconds between tokens after the first, by the server's count; None for a single token."""
        return (self.arrivals[-1] - self.arrivals[0]) / (self.num_output - 1) if self._has_pace else None

    @property
    def _has_pace(self) -> bool:
        return self.num_output > 1 and len(self.arrivals) > 1


async def find_model(endpoint: Endpoint) -> str:
    """Return the first model that the server lists. Raises ServerError."""
    listed = await get_json(endpoint, "/models")
    try:
        return str(listed["data"][0]["id"])
    except (LookupError, TypeError) as error:
        raise ServerError(f"{endpoint.url} lists no model; name one with --model") from error


async def ask(
    target: Target, messages: list[Message], asking: Asking, *, origin: float, due: float | None = None
) -> Sample:
    """Stream one greedy answer. Failures and timeouts are the sample's `error`, never raised.

    origin: `time.perf_counter()` at the start of the load. due: in open loops, the seconds after `origin` at which the
    request should leave. Latency counts from there, so that a late client does not improve the result.
    """
    body = orjson.dumps(
        {
            "model": target.model,
            "messages": messages,
            "max_tokens": asking.max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            **target.fields,
        }
    )
    began = time.perf_counter() - origin
    sample = Sample(due=began if due is None else due, began=began, ended=began, arrivals=[])
    try:
        async with asyncio.timeout(asking.timeout):
            await _stream(target, body, sample, origin)
    except ServerError as error:
        sample.error = str(error)
    except TimeoutError:
        sample.error = f"no complete answer within {asking.timeout:g} s"
    sample.ended = time.perf_counter() - origin
    return sample


async def _stream(target: Target, body: bytes, sample: Sample, origin: float) -> None:
    pieces = []
    done = False
    async with aclosing(events(target.endpoint, "/chat/completions", body)) as stream:
        async for data in stream:
            now = time.perf_counter() - origin
            if data == b"[DONE]":
                done = True
                continue
            chunk = _parse(data)
            if text := _text_of(chunk):
                sample.arrivals.append(now)
                pieces.append(text)
            if usage := chunk.get("usage"):
                sample.num_input, sample.num_output = usage["prompt_tokens"], usage["completion_tokens"]
    sample.text = "".join(pieces)
    if not done:
        raise ServerError("the stream ended without [DONE]")
    if not sample.num_output:
        if not pieces:
            raise ServerError("the stream held neither text nor token counts (stream_options.include_usage)")
        sample.num_output, sample.counted = len(pieces), True


def _parse(data: bytes) -> dict[str, Any]:
    try:
        chunk: dict[str, Any] = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ServerError(f"an event is not JSON: {data[:100]!r}") from error
    if "error" in chunk:
        raise ServerError(f"the server broke off: {orjson.dumps(chunk['error'])[:200].decode(errors='replace')}")
    return chunk


def _text_of(chunk: dict[str, Any]) -> str:
    """Return the text of a chunk: content or reasoning, because both are generated."""
    choices = chunk.get("choices")
    if not choices:
        return ""
    delta = choices[0].get("delta", {})
    return delta.get("content") or delta.get("reasoning_content") or ""
