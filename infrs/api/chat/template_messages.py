"""A conversation as chat templates take it."""

from __future__ import annotations

from typing import Any

from infrs.api.chat.request import Conversation

_ROLES = {"developer": "system", "function": "tool"}  # what chat templates call them


def to_messages(body: Conversation) -> list[dict[str, Any]]:
    """The conversation as chat templates take it, with each call's arguments parsed and each result's call named."""
    names: dict[str, str] = {}
    messages = []
    for message in body.messages:
        told: dict[str, Any] = {"role": _ROLES.get(message.role, message.role), "content": message.text}
        if message.name is not None:
            told["name"] = message.name
        if message.reasoning_content is not None:
            told["reasoning_content"] = message.reasoning_content
        calls = [(call.id, call.function) for call in message.tool_calls or ()]
        if message.function_call is not None:
            calls = [(f"call_{message.function_call.name}", message.function_call)]
        if calls:
            told["tool_calls"] = [
                {"id": id_, "type": "function", "function": {"name": called.name, "arguments": called.parsed}}
                for id_, called in calls
            ]
            names |= {id_: called.name for id_, called in calls}
        if told["role"] == "tool":
            told["tool_call_id"] = message.tool_call_id or f"call_{message.name}"
            told.setdefault("name", names.get(told["tool_call_id"], ""))
        messages.append(told)
    return messages
