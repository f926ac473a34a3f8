"""The presenters of responses: events, or the whole body."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from infrs.api.chat.choice_parser import ChoiceParser
from infrs.api.common.errors import message_of, status_of
from infrs.api.output import sse
from infrs.api.output.prepared import StreamForm
from infrs.api.output.tally import Tally
from infrs.api.output.usage import to_response_usage
from infrs.api.responses.items import new_item_id
from infrs.api.responses.output_items import OutputItems, Payload
from infrs.api.responses.request import ResponsesRequest
from infrs.api.responses.response_object import SAMPLING_FIELDS, response
from infrs.core import Delta, FinishReason, SamplingParams
from infrs.errors import InfrsError

Keep = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Framing:
    """How events go over the wire. event: returns the frame of a name and a payload. ping: a frame without content."""

    event: Callable[[str, Payload], bytes]
    ping: bytes


EVENT_STREAM = Framing(sse.named_event, sse.PING)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a response says about itself before there is an answer.

    sampling: the parameters in use. keep: stores the response when it ends; None stores nothing. is_stored: whether
    clients can use the id of the response later. framing: of the events.
    """

    body: ResponsesRequest
    response_id: str
    sampling: SamplingParams
    keep: Keep | None
    is_stored: bool
    framing: Framing = EVENT_STREAM


class _Events:
    """The first and the last events of a response."""

    content_type = sse.CONTENT_TYPE

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._created = int(time.time())
        self._output = OutputItems(facts.body.names)
        self._tally = Tally()
        self._num_events = 0

    @property
    def ping(self) -> bytes:
        """See Presenter."""
        return self._facts.framing.ping

    def failed(self, error: InfrsError) -> bytes:
        """See Presenter. The client may have received only comments so far."""
        status = status_of(error)
        code = error.code if status == 400 else "rate_limit_exceeded" if status == 429 else "server_error"
        failure = self._response("failed", error={"code": code, "message": message_of(error)})
        return b"".join((*self._begin(), self._event({"type": "response.failed", "response": failure})))

    def _begin(self) -> Iterator[bytes]:
        """Yield the events that start a stream, unless they are sent already."""
        if not self._num_events:
            for name in ("created", "in_progress"):
                yield self._event({"type": f"response.{name}", "response": self._response("in_progress")})

    def _end(self, status: str, num_reasoning_tokens: int) -> dict[str, Any]:
        """Return the finished response. It is stored before the client receives it."""
        usage = to_response_usage(self._tally.usage, num_reasoning_tokens)
        ended = self._response(status, usage=usage, completed=int(time.time()))
        if self._facts.keep is not None:
            self._facts.keep(ended)
        return ended

    def _response(self, status: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401  # see `response`
        return response(
            self._facts.body,
            response_id=self._facts.response_id,
            created=self._created,
            stored=self._facts.is_stored,
            status=status,
            sampling={name: getattr(self._facts.sampling, name) for name in SAMPLING_FIELDS},
            output=self._output.whole(),
            **fields,
        )

    def _event(self, payload: Payload) -> bytes:
        self._num_events += 1
        return self._facts.framing.event(payload["type"], {**payload, "sequence_number": self._num_events - 1})


def stream_form(body: ResponsesRequest) -> StreamForm:
    """Return the form of a stream before its request is prepared. A failed response is not stored."""
    events = _Events(Facts(body, new_item_id("resp"), SamplingParams(), keep=None, is_stored=False))
    return StreamForm(events.content_type, events.ping, events.failed)


class NotStreamed(_Events):
    """A presenter of answers that are never streamed."""

    finished = False

    def frames(self, deltas: Sequence[Delta]) -> Iterator[bytes]:  # of the protocol
        """See Presenter."""
        return iter(())


class ResponsesPresenter(_Events):
    """Presenter of `POST /v1/responses`. A stream and a whole body parse the deltas into the same OutputItems."""

    def __init__(self, facts: Facts, parser: ChoiceParser) -> None:
        super().__init__(facts)
        self._parser = parser

    @property
    def finished(self) -> bool:
        """See Presenter."""
        return self._parser.finish_reason is not None

    def frames(self, deltas: Sequence[Delta]) -> Iterator[bytes]:
        """See Presenter. Each event has its number in the stream."""
        if deltas:
            yield from self._begin()
        for delta in deltas:
            for payload in self._feed(delta):
                yield self._event(payload)
        if deltas and self.finished:
            yield self._event({"type": f"response.{self._status}", "response": self._ended()})

    def whole(self, deltas: Sequence[Delta]) -> bytes:
        """See Presenter."""
        for delta in deltas:
            for _ in self._feed(delta):
                pass
        return orjson.dumps(self._ended())

    @property
    def _status(self) -> str:
        return "incomplete" if self._parser.finish_reason is FinishReason.LENGTH else "completed"

    def _ended(self) -> dict[str, Any]:
        return self._end(self._status, self._parser.num_reasoning_tokens)

    def _feed(self, delta: Delta) -> Iterator[Payload]:
        """Yield the events that a delta adds. The tokens of reasoning have no log-probabilities."""
        self._tally.count(delta)
        in_reasoning = self._parser.in_reasoning
        events, logprobs = self._parser.feed(delta)
        if in_reasoning or self._parser.in_reasoning:
            logprobs = None
        yield from self._output.add(events, logprobs or ())
        if self.finished:
            yield from self._output.end(complete=self._status == "completed")


class WarmUpPresenter(_Events):
    """Presenter of a request that asks for no answer. The engine computes its prompt, or nothing."""

    finished = False

    def frames(self, deltas: Sequence[Delta]) -> Iterator[bytes]:
        """See Presenter. Without deltas, the engine computes nothing."""
        for delta in deltas:
            self._tally.count(delta)
        self.finished = not deltas or any(delta.finish_reason for delta in deltas)
        if self.finished:
            yield from self._begin()
            yield self._event({"type": "response.completed", "response": self._end("completed", 0)})

    def whole(self, deltas: Sequence[Delta]) -> bytes:
        """See Presenter."""
        return b"".join(self.frames(deltas))
