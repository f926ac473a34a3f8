"""An answer on Anthropic's wire: a message of content blocks, as it grows and as a whole.

Events: https://docs.claude.com/en/docs/build-with-claude/streaming
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_core import from_json

from infrs.api.output.sse import named_event
from infrs.text.tools.events import Arguments, CallStart, Content, Event, Reasoning

PING = named_event("ping", {"type": "ping"})

_EMPTY = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}}


class MessageBlocks:
    """The blocks of a message. Both the streamed and the whole form are made here, so that they say the same."""

    def __init__(self) -> None:
        self._blocks: list[dict[str, Any]] = []  # as they begin
        self._pieces: list[list[str]] = []  # of each block's text, thoughts or input
        self._is_open = False

    @property
    def has_calls(self) -> bool:
        """Whether the message makes a call."""
        return any(block["type"] == "tool_use" for block in self._blocks)

    def add(self, event: Event) -> Iterator[bytes]:
        """Take an event of the answer's text; the frames that tell a client of it."""
        match event:
            case Content(text):
                yield from self._begin("text")
                yield self._grow(text, {"type": "text_delta", "text": text})
            case Reasoning(text):
                yield from self._begin("thinking")
                yield self._grow(text, {"type": "thinking_delta", "thinking": text})
            case CallStart(name):
                yield from self._begin("tool_use", id=f"toolu_{secrets.token_hex(12)}", name=name, input={})
            case Arguments(text):
                yield self._grow(text, {"type": "input_json_delta", "partial_json": text})

    def close(self) -> Iterator[bytes]:
        """The answer, or a block of it, has ended."""
        if self._is_open:
            self._is_open = False
            yield frame("content_block_stop", {"index": len(self._blocks) - 1})

    def whole(self) -> list[dict[str, Any]]:
        """All blocks."""
        told = []
        for block, pieces in zip(self._blocks, self._pieces, strict=True):
            text = "".join(pieces)
            match block["type"]:
                case "tool_use":
                    told.append({**block, "input": _input(text)})
                case kind:
                    told.append({**block, kind: text})
        return told

    def _begin(self, kind: str, **fields: object) -> Iterator[bytes]:
        """Begin a block, unless one of text or of thoughts goes on."""
        if self._is_open and kind != "tool_use" and self._blocks[-1]["type"] == kind:
            return
        yield from self.close()
        self._is_open = True
        self._blocks.append({"type": kind, **_EMPTY.get(kind, {}), **fields})
        self._pieces.append([])
        yield frame("content_block_start", {"index": len(self._blocks) - 1, "content_block": self._blocks[-1]})

    def _grow(self, text: str, delta: Mapping[str, object]) -> bytes:
        self._pieces[-1].append(text)
        return frame("content_block_delta", {"index": len(self._blocks) - 1, "delta": delta})


def _input(text: str) -> dict[str, Any]:
    """A call's input: as far as it goes, where the answer was cut in it, as Anthropic's own clients read it."""
    try:
        value = from_json(text or "{}", allow_partial=True)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"INVALID_JSON": text}


def frame(kind: str, fields: Mapping[str, object]) -> bytes:
    """An event, whose data say its name again."""
    return named_event(kind, {"type": kind, **fields})


def message(
    answer_id: str,
    model: str,
    content: list[dict[str, Any]],
    usage: Mapping[str, object],
    *,
    stop_reason: str | None = None,
    stop_sequence: str | None = None,
) -> dict[str, object]:
    """A message, whole or, without a reason to have stopped, as a stream begins it."""
    return {
        "id": answer_id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": stop_sequence,
        "usage": usage,
    }


def new_id() -> str:
    """An id for a message."""
    return f"msg_{secrets.token_hex(12)}"
