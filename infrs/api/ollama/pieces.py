"""An answer as it grows, in the fields of Ollama's messages."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from infrs.api.output.call_arguments import as_object
from infrs.text.tools.events import Arguments, CallStart, Content, Event, Reasoning


class Pieces:
    """Turns events into pieces of a message. The stream and the whole body share it, so their content is the same.

    A piece has the fields `content`, `thinking` and `tool_calls`, as far as it adds to them. A call is part of a piece
    once its arguments are complete.
    """

    def __init__(self) -> None:
        self._content: list[str] = []
        self._thinking: list[str] = []
        self._calls: list[dict[str, Any]] = []
        self._open_call: tuple[str, list[str]] | None = None  # its name, and its arguments so far

    def add(self, events: Sequence[Event], *, is_last: bool) -> dict[str, Any]:
        """Take the events of a delta, and return what they add. is_last: whether the answer ends with them."""
        places = len(self._content), len(self._thinking), len(self._calls)
        for event in events:
            match event:
                case Arguments(text):
                    if self._open_call is not None:
                        self._open_call[1].append(text)
                case CallStart(name):
                    self._close_call()
                    self._open_call = name, []
                case Content(text):
                    self._close_call()
                    self._content.append(text)
                case Reasoning(text):
                    self._thinking.append(text)
        if is_last:
            self._close_call()
        return self._since(*places)

    def whole(self) -> dict[str, Any]:
        """Return the whole answer as one piece."""
        return self._since(0, 0, 0)

    def _since(self, content: int, thinking: int, calls: int) -> dict[str, Any]:
        piece: dict[str, Any] = {
            "content": "".join(self._content[content:]),
            "thinking": "".join(self._thinking[thinking:]),
            "tool_calls": self._calls[calls:],
        }
        return {name: value for name, value in piece.items() if value}

    def _close_call(self) -> None:
        if self._open_call is not None:
            name, pieces = self._open_call
            self._open_call = None
            function = {"index": len(self._calls), "name": name, "arguments": as_object("".join(pieces))}
            self._calls.append({"id": f"call_{secrets.token_hex(12)}", "function": function})
