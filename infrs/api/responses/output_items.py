"""The output items of a response as it grows: events on the wire, and the whole items.

The stream and the whole body share them, so their content is the same.
Source: https://platform.openai.com/docs/api-reference/responses-streaming
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infrs.api.responses.items import new_item_id
from infrs.text.tools.events import Arguments, CallStart, Content, Event

Payload = dict[str, Any]
Logprobs = Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Kind:
    """An item of one part of text."""

    type: str
    id_prefix: str
    part: str


_MESSAGE = _Kind("message", "msg", "output_text")
_REASONING = _Kind("reasoning", "rs", "reasoning_text")


class _Text:
    """A message or reasoning, of one part."""

    def __init__(self, kind: _Kind) -> None:
        self.id = new_item_id(kind.id_prefix)
        self.kind = kind
        self.status = "in_progress"
        self._texts: list[str] = []
        self._logprobs: list[dict[str, Any]] = []

    def begin(self) -> Iterator[Payload]:
        yield {"type": "response.output_item.added", "item": self._whole([])}
        yield {"type": "response.content_part.added", "item_id": self.id, "content_index": 0, "part": self._part()}

    def add(self, text: str, logprobs: Logprobs = ()) -> Iterator[Payload]:
        self._texts.append(text)
        self._logprobs += logprobs
        yield self._event("delta", {"delta": text}, logprobs)

    def end(self) -> Iterator[Payload]:
        yield self._event("done", {"text": "".join(self._texts)}, self._logprobs)
        yield {"type": "response.content_part.done", "item_id": self.id, "content_index": 0, "part": self._part()}
        yield {"type": "response.output_item.done", "item": self.whole()}

    def whole(self) -> dict[str, Any]:
        return self._whole([self._part()])

    def _whole(self, content: list[dict[str, Any]]) -> dict[str, Any]:
        item = {"id": self.id, "type": self.kind.type, "status": self.status, "content": content}
        return {**item, "role": "assistant"} if self.kind is _MESSAGE else {**item, "summary": []}

    def _part(self) -> dict[str, Any]:
        part: dict[str, Any] = {"type": self.kind.part, "text": "".join(self._texts)}
        return {**part, "annotations": [], "logprobs": [*self._logprobs]} if self.kind is _MESSAGE else part

    def _event(self, what: str, text: dict[str, str], logprobs: Logprobs) -> Payload:
        payload = {"type": f"response.{self.kind.part}.{what}", "item_id": self.id, "content_index": 0, **text}
        return {**payload, "logprobs": [*logprobs]} if self.kind is _MESSAGE else payload


class _Call:
    """A call of a function."""

    def __init__(self, namespace: str | None, name: str) -> None:
        self.id = new_item_id("fc")
        self.status = "in_progress"
        self._name = name
        self._namespace = {} if namespace is None else {"namespace": namespace}
        self._call_id = f"call_{secrets.token_hex(12)}"
        self._arguments: list[str] = []

    def begin(self) -> Iterator[Payload]:
        yield {"type": "response.output_item.added", "item": self.whole()}

    def add(self, text: str) -> Iterator[Payload]:
        self._arguments.append(text)
        yield {"type": "response.function_call_arguments.delta", "item_id": self.id, "delta": text}

    def end(self) -> Iterator[Payload]:
        item = self.whole()
        call = {"name": item["name"], "arguments": item["arguments"]}
        yield {"type": "response.function_call_arguments.done", "item_id": self.id, **call}
        yield {"type": "response.output_item.done", "item": item}

    def whole(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "function_call",
            "status": self.status,
            "call_id": self._call_id,
            "name": self._name,
            "arguments": "".join(self._arguments),
            **self._namespace,
        }


class OutputItems:
    """The items of one response, in order; the last may be open."""

    def __init__(self, functions: Mapping[str, tuple[str | None, str]] | None = None) -> None:
        """`functions`: namespace and name of each, by the name that the model sees."""
        self._functions = functions or {}
        self._items: list[_Text | _Call] = []
        self._logprobs: list[dict[str, Any]] = []  # of tokens that have no text yet

    def add(self, events: Sequence[Event], logprobs: Logprobs) -> Iterator[Payload]:
        """Yield the events that a piece of the answer adds. logprobs: entries of its tokens, shown with text only."""
        self._logprobs += logprobs
        for event in events:
            if isinstance(event, Content):
                yield from self._text(_MESSAGE, event.text, self._take_logprobs(event.text))
                continue
            self._logprobs.clear()
            match event:
                case CallStart(name):
                    yield from self._begin(_Call(*self._functions.get(name, (None, name))))
                case Arguments(text):
                    yield from self._numbered(self._call.add(text))
                case _:
                    yield from self._text(_REASONING, event.text)

    def end(self, *, complete: bool) -> Iterator[Payload]:
        """End the output, and yield its last events. An answer without text becomes an empty message."""
        if not self._items:
            yield from self._begin(_Text(_MESSAGE))
        last = self._items[-1]
        if self._logprobs and isinstance(last, _Text) and last.kind is _MESSAGE:
            yield from self._numbered(last.add("", self._logprobs))
        yield from self._end_last("completed" if complete else "incomplete")

    def whole(self) -> list[dict[str, Any]]:
        """Return the items."""
        return [item.whole() for item in self._items]

    @property
    def _call(self) -> _Call:
        call = self._items[-1]
        assert isinstance(call, _Call), "arguments follow the start of their call"  # noqa: S101
        return call

    def _text(self, kind: _Kind, text: str, logprobs: Logprobs = ()) -> Iterator[Payload]:
        last = self._items[-1] if self._items else None
        if not isinstance(last, _Text) or last.kind is not kind:
            last = _Text(kind)
            yield from self._begin(last)
        yield from self._numbered(last.add(text, logprobs))

    def _take_logprobs(self, text: str) -> Logprobs:
        """Return the entries of a text, without those of leading space that is not shown, as after reasoning."""
        taken, self._logprobs = self._logprobs, []
        if text[:1].isspace():
            return taken
        first = next((i for i, entry in enumerate(taken) if not entry["token"].isspace()), len(taken))
        return taken[first:]

    def _begin(self, item: _Text | _Call) -> Iterator[Payload]:
        yield from self._end_last("completed")
        self._items.append(item)
        yield from self._numbered(item.begin())

    def _end_last(self, status: str) -> Iterator[Payload]:
        if self._items:
            self._items[-1].status = status
            yield from self._numbered(self._items[-1].end())

    def _numbered(self, payloads: Iterator[Payload]) -> Iterator[Payload]:
        """Yield payloads with the index of the last item."""
        for payload in payloads:
            yield {**payload, "output_index": len(self._items) - 1}
