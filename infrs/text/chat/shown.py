"""Check that a rendered prompt shows each part of a conversation.

The parts: the text of each message, the name and the values of the arguments of each call, and of each tool the name,
the description, and the names and descriptions of its parameters.
A template can trim a text, and drop the reasoning of earlier turns, which models are trained without.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from infrs.errors import RequestError

Messages = Sequence[Mapping[str, Any]]
Tools = Sequence[Mapping[str, Any]]
Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A value that a prompt must show: a text, number, boolean or None.

    path: its keys and indices in the list of messages or tools.
    """

    path: Path
    value: Any

    @property
    def spellings(self) -> tuple[str, ...]:
        """Return the texts of which the prompt has one: the trimmed text or its JSON, else JSON or Python's form."""
        if isinstance(self.value, str):
            text = self.value.strip()
            escaped = (json.dumps(text, ensure_ascii=is_ascii)[1:-1] for is_ascii in (False, True))
            return tuple(dict.fromkeys((text, *escaped)))
        return (json.dumps(self.value), str(self.value))

    def stands_in(self, prompt: str) -> bool:
        """Return whether a prompt has one of the spellings, anywhere."""
        return any(spelling in prompt for spelling in self.spellings)

    @property
    def can_be_marked(self) -> bool:
        """Return whether a number can mark the part: not true, false and null."""
        return isinstance(self.value, str | int | float) and not isinstance(self.value, bool)


def check_shown(prompt: str, messages: Messages, tools: Tools, render: Callable[[Messages, Tools], str]) -> None:
    """Raise RequestError, param "messages" or "tools", if the prompt of `messages` and `tools` lacks a part.

    render: the function that made the prompt. It runs again only if a part does not stand in the prompt as it is: a
    template can escape it, or omit its beginning. Then a random number at the end of each such part is looked for.
    """
    for tool in tools:
        function = tool["function"]
        for name in (function["name"], *_properties(function)):
            if not Part((), name).stands_in(prompt):
                raise _hidden(f"the name {name} of the tool {function['name']}", "tools")
    in_tools = [part for part in tool_parts(tools) if not part.stands_in(prompt)]
    in_messages = [part for part in unseen(prompt, messages) if part.can_be_marked]
    if not (in_tools or in_messages):
        return
    (marked_messages, message_marks), (marked_tools, tool_marks) = (
        _marked(messages, in_messages),
        _marked(tools, in_tools),
    )
    prompt = render(marked_messages, marked_tools)
    for part, mark in zip(in_messages, message_marks, strict=True):
        if str(mark) not in prompt:
            number = int(part.path[0])
            keys = f".{part.path[1]}" + (f"[{part.path[2]}]" if part.path[1] == "tool_calls" else "")
            raise _hidden(f"messages[{number}]{keys} (role {messages[number]['role']})", "messages")
    for part, mark in zip(in_tools, tool_marks, strict=True):
        if str(mark) not in prompt:
            name = tools[int(part.path[0])]["function"]["name"]
            raise _hidden(f"{'.'.join(map(str, part.path[2:]))} of the tool {name}", "tools")


def _marked(values: Sequence[Mapping[str, Any]], missing: Sequence[Part]) -> tuple[Any, list[int]]:
    """Return a copy of messages or tools with a random number at the end of each missing part, and the numbers."""
    marked: Any = deepcopy(values) if missing else values
    marks = [secrets.randbelow(9 * 10**14) + 10**14 for _ in missing]  # exact as a float, too
    for part, mark in zip(missing, marks, strict=True):
        owner = marked
        for key in part.path[:-1]:
            owner = owner[key]
        owner[part.path[-1]] = f"{part.value}{mark}" if isinstance(part.value, str) else type(part.value)(mark)
    return marked, marks


def unseen(prompt: str, messages: Messages) -> list[Part]:
    """Return the parts that do not stand in a prompt as they are, in the order of the conversation.

    The parts of a message, with the results of its calls, can stand in any order. A system message can stand anywhere:
    Mistral's is in the last message.
    """
    missing = []
    start = end = last = 0  # where the message begins at the earliest, where the last found part ends
    for part in parts(messages):
        number = int(part.path[0])
        role = messages[number]["role"]
        if number > last and role != "tool":
            start, last = end, number
        begin = 0 if role == "system" else start
        places = ((prompt.find(text, begin), len(text)) for text in part.spellings)
        place, length = next((found for found in places if found[0] >= 0), (-1, 0))
        if place < 0:
            missing.append(part)
        elif role != "system":
            end = max(end, place + length)
    return missing


def parts(messages: Messages) -> Iterator[Part]:
    """Yield the parts of messages, in order."""
    for number, message in enumerate(messages):
        if (message["content"] or "").strip():
            yield Part((number, "content"), message["content"])
        for index, call in enumerate(message.get("tool_calls") or ()):
            path = (number, "tool_calls", index, "function")
            yield Part((*path, "name"), call["function"]["name"])
            yield from _leaves(call["function"]["arguments"], (*path, "arguments"))


def tool_parts(tools: Tools) -> Iterator[Part]:
    """Yield the descriptions of tools and of their parameters."""
    for number, tool in enumerate(tools):
        described: dict[Path, Any] = {("description",): tool["function"].get("description")}
        for name, schema in _properties(tool["function"]).items():
            if isinstance(schema, Mapping):
                described["parameters", "properties", name, "description"] = schema.get("description")
        for path, text in described.items():
            if isinstance(text, str) and text.strip():
                yield Part((number, "function", *path), text)


def _properties(function: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schemas of a function's parameters by name."""
    parameters = function.get("parameters")
    properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
    return properties if isinstance(properties, Mapping) else {}


def _leaves(value: Any, path: Path) -> Iterator[Part]:  # noqa: ANN401  # any JSON
    if isinstance(value, Mapping | list):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _leaves(item, (*path, key))
    elif value != "":
        yield Part(path, value)


def _hidden(what: str, param: str) -> RequestError:
    return RequestError(
        f"the model's chat template leaves out {what}; the model would not see it, so remove it or move its text to a "
        "user message",
        param=param,
    )
