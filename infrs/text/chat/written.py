"""The text of tool calls as a chat template writes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from infrs.errors import RequestError
from infrs.text.chat.conversation import declared, for_template, tool_variables
from infrs.text.chat.form import Form
from infrs.text.tools.call_grammar import Tool

_USER = {"role": "user", "content": "7710010"}
_TEXT = "7710020"
Calls = Sequence[tuple[str, Mapping[str, Any]]]


class _Format(Protocol):
    """A chat format, as `infrs.text.chat.template` has it."""

    @property
    def form(self) -> Form:
        """Return the form of conversation that the format reads."""

    @property
    def render(self) -> Callable[..., str]:
        """Return the method that renders messages."""


def written_calls(chat_format: _Format, calls: Calls) -> str:
    """Return the text that a chat format writes for an assistant's message of calls only; empty if it cannot.

    calls: names and arguments. The text has all markers of the calls, but not what the template writes around any
    answer: the role before it and the end of the turn after it.
    """
    return _written(chat_format.render, chat_format.form, calls)


def example_call(render: Callable[..., str], form: Form) -> str:
    """Return a call of `function_name` as the template of a form writes it; empty if it writes none."""
    return _written(render, form, [("function_name", {"argument_name": "value"})])


def _written(render: Callable[..., str], form: Form, calls: Calls) -> str:
    if form.calls == "text" or (form.one_call and len(calls) > 1):
        return ""
    if form.ids == "short":
        form = replace(form, ids="own")  # these have 9 characters
    tools = declared([Tool(name, "", {"type": "object", "properties": {}}) for name, _ in calls])
    written = [
        {"id": f"call{number:05}", "type": "function", "function": {"name": name, "arguments": dict(arguments)}}
        for number, (name, arguments) in enumerate(calls)
    ]
    messages = (
        {"role": "assistant", "content": _TEXT},
        {"role": "assistant", "content": "", "tool_calls": written},
    )
    try:
        answer, prompt = (
            render(
                for_template([_USER, message], tools, form),
                add_generation_prompt=False,
                variables=tool_variables(tools, form),
            )
            for message in messages
        )
    except RequestError:
        return ""
    return _difference(answer, prompt) if all(name in prompt for name, _ in calls) else ""


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
