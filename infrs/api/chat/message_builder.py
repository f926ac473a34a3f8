"""An assistant's message as it grows: a change on the wire per event, and the whole message."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

from infrs.text.tools.events import Arguments, CallStart, Content, Event


@dataclass
class _Call:
    id: str
    name: str
    arguments: list[str] = field(default_factory=list)


class MessageBuilder:
    """Builds a message from events. The stream and the whole body share it, so their content is the same."""

    def __init__(self, *, uses_functions: bool = False) -> None:
        """`uses_functions`: show a call as `function_call`, OpenAI's older form."""
        self._uses_functions = uses_functions
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[_Call] = []

    def add(self, event: Event) -> dict[str, Any]:
        """Take an event, and return the `delta` that shows it."""
        match event:
            case Content(text):
                self._content.append(text)
                return {"content": text}
            case CallStart(name):
                self._calls.append(_Call(f"call_{secrets.token_hex(12)}", name))
                return self._call_started(self._calls[-1])
            case Arguments(text):
                self._calls[-1].arguments.append(text)
                if self._uses_functions:
                    return {"function_call": {"arguments": text}}
                return {"tool_calls": [{"index": len(self._calls) - 1, "function": {"arguments": text}}]}
        self._reasoning.append(event.text)
        return {"reasoning_content": event.text}

    def finish_reason(self, reason: str) -> str:
        """Return OpenAI's finish reason, which names the calls of a message that is complete."""
        if reason != "stop" or not self._calls:
            return reason
        return "function_call" if self._uses_functions else "tool_calls"

    def whole(self, *, can_call: bool = False) -> dict[str, Any]:
        """Return the message. Its content is null if it has calls and no text.

        can_call: whether an answer without text is a call that was cut before its arguments. Its content is null too.
        """
        content = "".join(self._content)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if (self._calls or can_call) and not content else content,
            "refusal": None,
        }
        if self._reasoning:
            message["reasoning_content"] = "".join(self._reasoning)
        calls = [(call.id, {"name": call.name, "arguments": "".join(call.arguments)}) for call in self._calls]
        if calls and self._uses_functions:
            message["function_call"] = calls[0][1]
        elif calls:
            message["tool_calls"] = [
                {"id": call_id, "type": "function", "function": function} for call_id, function in calls
            ]
        return message

    def _call_started(self, call: _Call) -> dict[str, Any]:
        function = {"name": call.name, "arguments": ""}
        if self._uses_functions:
            return {"function_call": function}
        index = len(self._calls) - 1
        return {"tool_calls": [{"index": index, "id": call.id, "type": "function", "function": function}]}
