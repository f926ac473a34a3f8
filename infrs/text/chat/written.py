"""The text of tool calls as a chat template writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from infrs.errors import RequestError

_USER = {"role": "user", "content": "7710010"}
_TEXT = "7710020"
_TOOL = {
    "type": "function",
    "function": {"name": "f", "description": "", "parameters": {"type": "object", "properties": {}}},
}


class Renders(Protocol):
    """A chat format, which renders messages."""

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """Return the prompt. Raises RequestError."""


def written_calls(chat_format: Renders, calls: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Return the text that a chat format writes for an assistant's message of calls only; empty if it writes none.

    calls: names and arguments. The text has all markers of the calls, but not what the template writes around any
    answer: the role before it and the end of the turn after it.
    """
    answer = _render(chat_format, {"role": "assistant", "content": _TEXT})
    for as_string in (False, True):
        for content in ("", None):
            message = {
                "role": "assistant",
                "content": content,
                "tool_calls": [
                    {
                        "id": f"call{number:05}",
                        "type": "function",
                        "function": {
                            "name": name,
                            "arguments": json.dumps(arguments, ensure_ascii=False) if as_string else dict(arguments),
                        },
                    }
                    for number, (name, arguments) in enumerate(calls)
                ],
            }
            prompt = _render(chat_format, message)
            is_shown = all(name in prompt for name, _ in calls)
            if is_shown and not any(arguments and str(arguments) in prompt for _, arguments in calls):
                return _difference(answer, prompt)
    return ""


def _render(chat_format: Renders, message: Mapping[str, Any]) -> str:
    try:
        return chat_format.render([_USER, message], add_generation_prompt=False, variables={"tools": [_TOOL]})
    except RequestError:
        return ""


def _difference(answer: str, prompt: str) -> str:
    """Return the part of `prompt` that stands where `answer` has its text, with whole markers `<...>`."""
    before, _, after = answer.partition(_TEXT)
    start = _common_length(before, prompt)
    end = len(prompt) - _common_length(after[::-1], prompt[start:][::-1])
    if _is_inside_marker(prompt, start):
        start = prompt.rfind("<", 0, start)
    if _is_inside_marker(prompt, end):
        end = prompt.find(">", end) + 1 or len(prompt)
    return prompt[start:end]


def _common_length(left: str, right: str) -> int:
    """Return the length of the common beginning of two texts."""
    pairs = zip(left, right, strict=False)
    return next((index for index, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))


def _is_inside_marker(text: str, index: int) -> bool:
    return text.rfind("<", 0, index) > text.rfind(">", 0, index)
