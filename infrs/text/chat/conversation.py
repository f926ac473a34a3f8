"""Prepare conversations with tools for a chat template."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from infrs.text.tools.call_grammar import Tool

Message = Mapping[str, Any]

# After Google's guide to function calling with Gemma, which has a template without tools.
_INSTRUCTIONS = """You have access to these functions:
{functions}

To call a function, answer with nothing but {{"name": function name, "arguments": object of its arguments}}, \
or with a JSON list of these for several calls. Answer in plain text if no function helps."""


def declared(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Return tools in OpenAI's format, which templates expect."""
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)},
        }
        for tool in tools
    ]


def for_template(messages: Sequence[Message], tools: Sequence[Tool], template: str) -> list[Message]:
    """Return the messages of a conversation with tools, converted to what the template supports.

    A template with support for tools gets them as its variable `tools` or, for Phi, in the system message. Any other
    template gets text: the tools as instructions, calls as JSON of that format, results as the user's messages.
    """
    if "length 9" in template:  # Mistral's templates require ids of 9 characters
        messages = [_with_short_ids(message) for message in messages]
    if "tool_calls" not in template:
        messages = _as_text(messages)
    if tools and any(name in template for name in ("message['tools']", 'message["tools"]', "message.tools")):
        return _with_system_tools(messages, json.dumps(declared(tools)))
    if tools and "tools" not in template:
        return _with_instructions(messages, tools)
    return list(messages)


def _as_text(messages: Sequence[Message]) -> list[Message]:
    changed: list[Message] = []
    for message in messages:
        if message["role"] == "tool":
            result = f"<tool_response>\n{message['content']}\n</tool_response>"
            if changed and changed[-1].get("is_result"):  # templates require alternating turns
                changed[-1] = {**changed[-1], "content": f"{changed[-1]['content']}\n{result}"}
            else:
                changed.append({"role": "user", "content": result, "is_result": True})
        elif message.get("tool_calls"):
            calls = [call["function"] for call in message["tool_calls"]]
            written = json.dumps(calls[0] if len(calls) == 1 else calls, ensure_ascii=False)
            changed.append({"role": message["role"], "content": "\n".join(filter(None, (message["content"], written)))})
        else:
            changed.append(message)
    return [{name: value for name, value in message.items() if name != "is_result"} for message in changed]


def _with_instructions(messages: Sequence[Message], tools: Sequence[Tool]) -> list[Message]:
    """Add the instructions to the system message, or before the first user message: some templates have no system."""
    functions = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in declared(tools))
    text = _INSTRUCTIONS.format(functions=functions)
    changed = list(messages)
    for index, message in enumerate(changed):
        if message["role"] == "system":
            changed[index] = {**message, "content": f"{message['content']}\n\n{text}"}
            return changed
    for index, message in enumerate(changed):
        if message["role"] == "user":
            changed[index] = {**message, "content": f"{text}\n\n{message['content']}"}
            return changed
    return [{"role": "user", "content": text}, *changed]


def _with_system_tools(messages: Sequence[Message], tools: str) -> list[Message]:
    first = messages[0] if messages[0]["role"] == "system" else {"role": "system", "content": ""}
    return [{**first, "tools": tools}, *(messages[1:] if messages[0] is first else messages)]


def _with_short_ids(message: Message) -> Message:
    changed = dict(message)
    if message.get("tool_calls"):
        changed["tool_calls"] = [{**call, "id": _short(call["id"])} for call in message["tool_calls"]]
    if message.get("tool_call_id"):
        changed["tool_call_id"] = _short(message["tool_call_id"])
    return changed


def _short(call_id: str) -> str:
    return hashlib.sha256(call_id.encode()).hexdigest()[:9]
