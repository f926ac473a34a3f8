"""An assistant's message of content blocks: a stream of events, and the whole message.

Events: https://docs.claude.com/en/docs/build-with-claude/streaming
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from infrs.api.output.call_arguments import as_object
from infrs.api.output.sse import named_event
from infrs.text.tools.events import Arguments, CallStart, Content, Event, Reasoning

PING = named_event("ping", {"type": "ping"})

_EMPTY = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}}


class MessageBlocks:
    """Builds the blocks of a message. The stream and the whole body share it, so their content is the same."""

    def __init__(self) -> None:
        self._blocks: list[dict[str, Any]] = []  # without their content
        self._pieces: list[list[str]] = []  # the text, reasoning or input of each block
        self._is_open = False

    @property
    def has_calls(self) -> bool:
        """Whether the message makes a call."""
        return any(block["type"] == "tool_use" for block in self._blocks)

    def add(self, event: Event) -> Iterator[bytes]:
        """Take an event, and yield the frames that show it."""
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
        """End the open block, and yield its last frame."""
        if self._is_open:
            self._is_open = False
            yield frame("content_block_stop", {"index": len(self._blocks) - 1})

    def whole(self) -> list[dict[str, Any]]:
        """Return all blocks."""
        blocks = []
        for block, pieces in zip(self._blocks, self._pieces, strict=True):
            text = "".join(pieces)
            match block["type"]:
                case "tool_use":
                    blocks.append({**block, "input": as_object(text)})
                case kind:
                    blocks.append({**block, kind: text})
        return blocks

    def _begin(self, kind: str, **fields: object) -> Iterator[bytes]:
        """Begin a block, unless the open block continues."""
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


def frame(kind: str, fields: Mapping[str, object]) -> bytes:
    """Return an event. Its data repeat its name."""
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
    """Return a message. A stream begins with one that has no `stop_reason`."""
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
