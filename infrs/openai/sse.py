"""Server-sent events of a streamed chat completion.

What is the same in every chunk is serialised once, so that a token costs one string to escape.
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson

DONE = b"data: [DONE]\n\n"
CONTENT_TYPE = "text/event-stream; charset=utf-8"


class ChunkEncoder:
    """Encodes the chunks of one `chat.completion.chunk` stream as event frames (bytes)."""

    def __init__(self, completion_id: str, created: int, model: str, *, include_usage: bool) -> None:
        head = orjson.dumps(
            {"id": completion_id, "object": "chat.completion.chunk", "created": created, "model": model}
        )
        self._head = b"data: " + head[:-1] + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if include_usage else b"]}\n\n"
        self._content_head = self._head + b'{"index":0,"delta":{"content":'
        self._content_tail = b'},"logprobs":null,"finish_reason":null}' + self._tail

    def role(self) -> bytes:
        """The first chunk."""
        return self._choice(b'{"role":"assistant","content":""}', b"null")

    def content(self, text: str) -> bytes:
        """A piece of the answer."""
        return self._content_head + orjson.dumps(text) + self._content_tail

    def finish(self, reason: str) -> bytes:
        """The last chunk with a choice."""
        return self._choice(b"{}", orjson.dumps(reason))

    def usage(self, usage: Mapping[str, object]) -> bytes:
        """The chunk after it, with no choice, when `stream_options.include_usage` asks for it."""
        return self._head + b'],"usage":' + orjson.dumps(usage) + b"}\n\n"

    def _choice(self, delta: bytes, reason: bytes) -> bytes:
        choice = b'{"index":0,"delta":' + delta + b',"logprobs":null,"finish_reason":' + reason + b"}"
        return self._head + choice + self._tail


def error_event(body: bytes) -> bytes:
    """An error after the headers: an event that carries the error body. No `[DONE]` follows it."""
    return b"data: " + body + b"\n\n"
