"""Server-sent events of a streamed answer.

What is the same in every chunk is serialised once, so that a token costs one string to escape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

DONE = b"data: [DONE]\n\n"
PING = b": ping\n\n"  # a comment, which clients pass over
CONTENT_TYPE = "text/event-stream; charset=utf-8"

Usage = Mapping[str, object]


class _Chunks:
    """Chunks with the same head, as event frames (bytes)."""

    def __init__(self, head: Mapping[str, object], *, include_usage: bool) -> None:
        """`head`: id, object, created, model and so on."""
        self._head = b"data: " + orjson.dumps(head)[:-1] + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if include_usage else b"]}\n\n"

    def usage(self, usage: Usage) -> bytes:
        """The chunk with no choice that ends the stream when `stream_options.include_usage` asks for it."""
        return self._frame(b"", usage)

    def _frame(self, choice: bytes, usage: Usage | None) -> bytes:
        tail = self._tail if usage is None else b'],"usage":' + orjson.dumps(usage) + b"}\n\n"
        return self._head + choice + tail


class ChatChunks(_Chunks):
    """`chat.completion.chunk`. `usage`, where given, is that of the answer so far."""

    def role(self, index: int, usage: Usage | None = None) -> bytes:
        """The first chunk of a choice."""
        return self.delta(index, {"role": "assistant", "content": ""}, None, usage)

    def content(
        self, index: int, text: str, logprobs: Sequence[object] | None = None, usage: Usage | None = None
    ) -> bytes:
        """A piece of the answer."""
        return self.delta(index, {"content": text}, logprobs, usage)

    def delta(
        self,
        index: int,
        delta: Mapping[str, object],
        logprobs: Sequence[object] | None = None,
        usage: Usage | None = None,
    ) -> bytes:
        """Anything that a choice gained. logprobs: the entries of `logprobs.content`."""
        entries = b"null" if logprobs is None else b'{"content":' + orjson.dumps(logprobs) + b',"refusal":null}'
        choice = b'{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":null}' % (index, orjson.dumps(delta), entries)
        return self._frame(choice, usage)

    def finish(self, index: int, reason: str, usage: Usage | None = None) -> bytes:
        """The last chunk of a choice."""
        choice = b'{"index":%d,"delta":{},"logprobs":null,"finish_reason":%b}' % (index, orjson.dumps(reason))
        return self._frame(choice, usage)


class TextChunks(_Chunks):
    """`text_completion` chunks."""

    def text(
        self,
        index: int,
        text: str,
        *,
        logprobs: Mapping[str, object] | None = None,
        reason: str | None = None,
        usage: Usage | None = None,
    ) -> bytes:
        """A piece of a choice; the last one has its finish reason."""
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
        return self._frame(orjson.dumps(choice), usage)


def error_event(body: bytes) -> bytes:
    """An error after the headers: an event that carries the error body. No `[DONE]` follows it."""
    return b"data: " + body + b"\n\n"


def named_event(name: str, payload: Mapping[str, object]) -> bytes:
    """An event that has a name."""
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(payload) + b"\n\n"
