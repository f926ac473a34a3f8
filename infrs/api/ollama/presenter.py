"""The presenter of Ollama's answers: lines of JSON, or the whole body."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

import orjson

from infrs.api.ollama.errors import error_body, message_of
from infrs.api.ollama.pieces import Pieces
from infrs.api.output.ndjson import CONTENT_TYPE, line
from infrs.api.output.prepared import StreamForm
from infrs.api.output.usage import to_finish_reason
from infrs.core import Delta, FinishReason, RequestContext
from infrs.errors import InfrsError
from infrs.text.tools.events import Event


class Parser(Protocol):
    """A parser of one answer; see ChoiceParser."""

    finish_reason: FinishReason | None

    def feed(self, delta: Delta) -> tuple[list[Event], list[dict[str, Any]] | None]:
        """Return the events and the log-probabilities that a delta adds."""


@dataclass
class Durations:
    """The times of one request, in nanoseconds of the monotonic clock.

    started: arrival. submitted: the end of its preparation. first: its first token; None before that.
    """

    started: int
    submitted: int = field(default_factory=time.monotonic_ns)
    first: int | None = None

    @classmethod
    def of(cls, context: RequestContext) -> Durations:
        """Return the times of a request that is prepared now."""
        return cls(int(1e9 * (context.deadline - context.timeout)))

    def observe(self, deltas: Sequence[Delta]) -> None:
        """Note the arrival of the first delta."""
        if self.first is None:
            self.first = time.monotonic_ns()

    def fields(self, delta: Delta) -> dict[str, int]:
        """Return the durations and counts that end an answer. delta: its last one."""
        now = time.monotonic_ns()
        first = self.first or now
        return {
            "total_duration": now - self.started,
            "load_duration": 0,
            "prompt_eval_count": delta.usage.num_prompt_tokens,
            "prompt_eval_duration": first - self.submitted,
            "eval_count": delta.usage.num_output_tokens,
            "eval_duration": now - first,
        }


def ping(model: str, *, is_chat: bool) -> bytes:
    """Return a line without text. Ollama's clients parse each line, so a stream has no comments."""
    return line(part(model, {}, is_chat=is_chat) | {"done": False})


def failure(error: InfrsError) -> bytes:
    """Return the line that ends a stream with an error."""
    return error_body(message_of(error)) + b"\n"


def stream_form(model: str, *, is_chat: bool) -> StreamForm:
    """Return the form of a stream. `model`: the name that the client sent."""
    return StreamForm(CONTENT_TYPE, ping(model, is_chat=is_chat), failure)


class OllamaPresenter:
    """Presenter of `POST /api/chat` and `POST /api/generate`."""

    content_type = CONTENT_TYPE

    def __init__(self, model: str, parser: Parser, durations: Durations, *, is_chat: bool) -> None:
        """`model`: the name that the client sent. is_chat: whether the answer is a message."""
        self._model = model
        self._parser = parser
        self._durations = durations
        self._is_chat = is_chat
        self._pieces = Pieces()

    @property
    def finished(self) -> bool:
        """See Presenter."""
        return self._parser.finish_reason is not None

    @property
    def ping(self) -> bytes:
        """See Presenter."""
        return ping(self._model, is_chat=self._is_chat)

    def frames(self, deltas: Sequence[Delta]) -> Iterator[bytes]:
        """See Presenter."""
        self._durations.observe(deltas)
        for delta in deltas:
            piece, logprobs = self._feed(delta)
            if piece or logprobs:
                yield line(self._part(piece, logprobs))
            if self.finished:
                yield line(self._end({}, delta))

    def failed(self, error: InfrsError) -> bytes:
        """See Presenter."""
        return failure(error)

    def whole(self, deltas: Sequence[Delta]) -> bytes:
        """See Presenter."""
        entries: list[dict[str, Any]] = []
        for delta in deltas:
            _, logprobs = self._feed(delta)
            entries += logprobs or ()
        return orjson.dumps(self._end(self._pieces.whole(), deltas[-1], entries))

    def _feed(self, delta: Delta) -> tuple[dict[str, Any], list[dict[str, Any]] | None]:
        """Return the fields of the message that a delta adds, and its log-probabilities."""
        events, logprobs = self._parser.feed(delta)
        return self._pieces.add(events, is_last=self.finished), logprobs

    def _part(self, piece: dict[str, Any], logprobs: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        return part(self._model, piece, is_chat=self._is_chat) | {"done": False} | _scored(logprobs)

    def _end(self, piece: dict[str, Any], last: Delta, logprobs: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        assert last.finish_reason is not None, "a stream ends with a finish reason or raises"  # noqa: S101
        return {
            **part(self._model, piece, is_chat=self._is_chat),
            "done": True,
            "done_reason": to_finish_reason(last.finish_reason),
            **self._durations.fields(last),
            **_scored(logprobs),
        }


def part(model: str, piece: dict[str, Any], *, is_chat: bool) -> dict[str, Any]:
    """Return the beginning of a line or a body: the model, the time and a piece of the answer."""
    shown = dict(piece)
    text = shown.pop("content", "")
    answer = {"message": {"role": "assistant", "content": text, **shown}} if is_chat else {"response": text, **shown}
    created = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return {"model": model, "created_at": created, **answer}


def done(model: str, reason: Literal["load", "unload"], *, is_chat: bool) -> bytes:
    """Return the answer to a request without a prompt: the model is loaded or unloaded."""
    return line(part(model, {}, is_chat=is_chat) | {"done": True, "done_reason": reason})


def _scored(logprobs: list[dict[str, Any]] | None) -> dict[str, Any]:
    return {"logprobs": logprobs} if logprobs else {}
