"""Server-sent events of a streamed answer.

The constant part of all chunks is serialised once, so that a token costs one string to escape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

DONE = b"data: [DONE]\n\n"
PING = b": ping\n\n"  # a comment, which clients ignore
CONTENT_TYPE = "text/event-stream; charset=utf-8"

Usage = Mapping[str, object]


class _Chunks:
    """Makes chunks with the same head, as event frames (bytes)."""

    def __init__(self, head: Mapping[str, object], *, include_usage: bool) -> None:
        """`head`: id, object, created, model and so on."""
        self._head = b"data: " + orjson.dumps(head)[:-1] + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if include_usage else b"]}\n\n"

    def usage(self, usage: Usage) -> bytes:
        """Return the chunk without a choice that ends a stream with `stream_options.include_usage`."""
        return self._frame(b"", usage)

    def _frame(self, choice: bytes, usage: Usage | None) -> bytes:
        tail = self._tail if usage is None else b'],"usage":' + orjson.dumps(usage) + b"}\n\n"
        return self._head + choice + tail


class ChatChunks(_Chunks):
    """Makes `chat.completion.chunk` frames. `usage`, where given, is that of the answer so far."""

    def role(self, index: int, usage: Usage | None = None) -> bytes:
        """Return the first chunk of a choice."""
        return self.delta(index, {"role": "assistant", "content": ""}, None, usage)

    def delta(
        self,
        index: int,
        delta: Mapping[str, object],
        logprobs: Sequence[object] | None = None,
        usage: Usage | None = None,
    ) -> bytes:
        """Return a chunk with a change of the message. logprobs: the entries of `logprobs.content`."""
        entries = b"null" if logprobs is None else b'{"content":' + orjson.dumps(logprobs) + b',"refusal":null}'
        choice = b'{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":null}' % (index, orjson.dumps(delta), entries)
        return self._frame(choice, usage)

    def finish(self, index: int, reason: str, usage: Usage | None = None) -> bytes:
        """Return the last chunk of a choice."""
        choice = b'{"index":%d,"delta":{},"logprobs":null,"finish_reason":%b}' % (index, orjson.dumps(reason))
        return self._frame(choice, usage)


class TextChunks(_Chunks):
    """Makes `text_completion` frames."""

    def text(
        self,
        index: int,
        text: str,
        *,
        logprobs: Mapping[str, object] | None = None,
        reason: str | None = None,
        usage: Usage | None = None,
    ) -> bytes:
        """Return a chunk with a piece of text; the last one of a choice has its finish reason."""
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
        return self._frame(orjson.dumps(choice), usage)


def error_event(body: bytes) -> bytes:
    """Return an event that carries an error body, for an error after the headers. No `[DONE]` follows it."""
    return b"data: " + body + b"\n\n"


def named_event(name: str, payload: Mapping[str, object]) -> bytes:
    """Return an event with a name."""
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(payload) + b"\n\n"
