"""Convert a conversation to the form that a chat template reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from infrs.text.chat.form import IN_SYSTEM_MESSAGE, IN_TEXT, TOOL_VARIABLES, Form
from infrs.text.tools.call_grammar import Tool

Message = Mapping[str, Any]
Messages = Sequence[Message]

# After Google's guide to function calling with Gemma, which has a template without tools.
_INSTRUCTIONS = """You have access to these functions:
{functions}

To call a function, answer with nothing but {call}Answer in plain text if no function helps."""
_JSON_CALL = (
    '{"name": function name, "arguments": object of its arguments}, or with a JSON list of these for several calls. '
)


def declared(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Return tools in OpenAI's format, which templates expect."""
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)},
        }
        for tool in tools
    ]


def tool_variables(tools: Sequence[Message], form: Form) -> dict[str, Any]:
    """Return the variables of a template that has a variable for tools."""
    if tools and form.tools in TOOL_VARIABLES:
        return {form.tools: list(tools)}
    return {"tools": []} if form.no_tools_is_list else {}


def for_template(messages: Messages, tools: Sequence[Message], form: Form) -> list[Message]:
    """Return the messages in the form that a template reads. Their content is text; calls are in OpenAI's format.

    tools: as from `declared`. They become part of the messages if the template has no variable for them.
    """
    if tools and form.tools == IN_TEXT:
        messages = _with_instructions(messages, tools, form)
    elif tools and form.tools == IN_SYSTEM_MESSAGE:
        messages = _with_system_tools(messages, json.dumps(tools, ensure_ascii=False))
    elif tools and form.tools_need_system and all(message["role"] != "system" for message in messages):
        messages = [{"role": "system", "content": ""}, *messages]
    ids = _new_ids(messages, form)
    if form.one_call:
        messages = [*_one_call_each(messages)]
    return [_shaped(message, form, ids) for message in _merged([*_placed([*_as_text(messages, form)], form)], form)]


def _as_text(messages: Messages, form: Form) -> Iterator[Message]:
    """Write calls and results as text, or separate calls from text, as the form demands."""
    results: list[str] = []  # consecutive ones share a message: templates require alternating turns
    for message in messages:
        if message["role"] == "tool" and form.results == "text":
            results.append(f"<tool_response>\n{message['content']}\n</tool_response>")
            continue
        if message["role"] == "tool" and form.calls == "metadata":
            yield {"role": "observation", "content": message["content"]}
            continue
        if results:
            yield {"role": "user", "content": "\n".join(results)}
            results = []
        calls = message.get("tool_calls")
        without = {name: value for name, value in message.items() if name != "tool_calls"}
        if calls and form.calls == "text":
            functions = [call["function"] for call in calls]
            written = json.dumps(functions[0] if len(functions) == 1 else functions, ensure_ascii=False)
            yield {**without, "content": "\n".join(filter(None, (message["content"], written)))}
        elif calls and form.calls == "metadata":
            yield from _as_metadata(without, calls)
        elif calls and message["content"] and form.splits_calls:
            yield without
            yield {"role": message["role"], "content": "", "tool_calls": calls}
        else:
            yield message
    if results:
        yield {"role": "user", "content": "\n".join(results)}


def _as_metadata(message: Message, calls: Sequence[Message]) -> Iterator[Message]:
    """Yield a message without calls if it has text, and a message for each call."""
    if message["content"]:
        yield message
    for call in calls:
        function = call["function"]
        yield {"role": message["role"], "metadata": function["name"], "content": _json_text(function["arguments"])}


def _one_call_each(messages: Messages) -> Iterator[Message]:
    """Give each call its own message, followed by its result."""
    rest = list(messages)
    while rest:
        message = rest.pop(0)
        calls = message.get("tool_calls", ())
        if len(calls) < 2:
            yield message
            continue
        count = next((index for index, other in enumerate(rest) if other["role"] != "tool"), len(rest))
        results, rest = rest[:count], rest[count:]
        for call in calls:
            yield {**message, "tool_calls": [call]}
            yield from (result for result in results if result.get("tool_call_id") == call["id"])
            message = {"role": message["role"], "content": ""}
        ids = {call["id"] for call in calls}
        yield from (result for result in results if result.get("tool_call_id") not in ids)


def _placed(messages: Messages, form: Form) -> Iterator[Message]:
    """Keep system messages where the template reads them, and write the others as text before the next message."""
    if form.system == "anywhere":
        yield from messages
        return
    count = next((index for index, message in enumerate(messages) if message["role"] != "system"), len(messages))
    leading = [message["content"] for message in messages[:count]]
    if leading and form.system == "first":
        yield {**messages[0], "content": "\n\n".join(leading)}
        messages, leading = messages[count:], []
    texts: list[str] = []
    for message in messages:
        if message["role"] == "system":
            texts.append(message["content"])
        elif texts and message["role"] == "user":
            yield {**message, "content": "\n\n".join((*texts, message["content"]))}
            texts = []
        else:
            if texts:
                yield {"role": "user", "content": "\n\n".join(texts)}
                texts = []
            yield message
    if texts:
        yield {"role": "user", "content": "\n\n".join(texts)}


def _merged(messages: Messages, form: Form) -> list[Message]:
    """Join consecutive messages of one role, unless they have calls."""
    merged: list[Message] = []
    for message in messages:
        last = merged[-1] if merged else None
        is_plain = message["role"] in ("user", "assistant") and not message.get("tool_calls")
        if form.merges and is_plain and last and last["role"] == message["role"] and not last.get("tool_calls"):
            merged[-1] = {**last, "content": f"{last['content']}\n\n{message['content']}"}
        else:
            merged.append(message)
    return merged


def _shaped(message: Message, form: Form, ids: Mapping[str, str]) -> Message:
    """Return a message with its content, arguments, ids and reasoning in the template's types and keys."""
    changed = dict(message)
    if message.get("tool_calls"):
        changed["tool_calls"] = [_shaped_call(call, form, ids) for call in message["tool_calls"]]
        changed["content"] = message["content"] or form.empty_content
    if message["role"] in form.part_roles and changed["content"] is not None:
        changed["content"] = [{"type": "text", "text": changed["content"]}]
    if message.get("tool_call_id"):
        changed["tool_call_id"] = ids.get(message["tool_call_id"], message["tool_call_id"])
    if "reasoning_content" in changed:
        changed[form.reasoning] = changed.pop("reasoning_content")
    return changed


def _shaped_call(call: Message, form: Form, ids: Mapping[str, str]) -> Message:
    function = call["function"]
    arguments = function["arguments"]
    if form.calls == "string":
        arguments = _json_text(arguments)
    return {**call, "id": ids.get(call["id"], call["id"]), "function": {**function, "arguments": arguments}}


def _json_text(arguments: Any) -> str:  # noqa: ANN401  # any JSON
    """Return the arguments of a call as JSON; they can be JSON already."""
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _new_ids(messages: Messages, form: Form) -> dict[str, str]:
    """Return the ids of calls for the template, by the client's ids."""
    calls = [call for message in messages for call in message.get("tool_calls") or ()]
    if form.ids == "named":
        return {call["id"]: f"functions.{call['function']['name']}:{number}" for number, call in enumerate(calls)}
    if form.ids == "short":
        results = [message["tool_call_id"] for message in messages if message.get("tool_call_id")]
        ids = [*(call["id"] for call in calls), *results]
        return {call_id: hashlib.sha256(call_id.encode()).hexdigest()[:9] for call_id in ids}
    return {}


def _with_instructions(messages: Messages, tools: Sequence[Message], form: Form) -> list[Message]:
    """Add the instructions to the system message, or before the first user message: some templates have no system."""
    functions = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools)
    call = f"a call in this format:\n{form.example}\n" if form.example else _JSON_CALL
    text = _INSTRUCTIONS.format(functions=functions, call=call)
    places: tuple[tuple[str, Callable[[str], str]], ...] = (
        ("system", lambda content: f"{content}\n\n{text}"),
        ("user", lambda content: f"{text}\n\n{content}"),
    )
    for role, join in places:
        for index, message in enumerate(messages):
            if message["role"] == role:
                return [
                    *messages[:index],
                    {**message, "content": join(message["content"])},
                    *messages[index + 1 :],
                ]
    return [{"role": "user", "content": text}, *messages]


def _with_system_tools(messages: Messages, tools: str) -> list[Message]:
    first = messages[0] if messages[0]["role"] == "system" else {"role": "system", "content": ""}
    return [{**first, "tools": tools}, *(messages[1:] if messages[0] is first else messages)]
