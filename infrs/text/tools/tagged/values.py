"""The JSON of values that a format writes as plain text."""

from __future__ import annotations

import json

from infrs.text.tools.argument_types import Argument
from infrs.text.tools.literals.argument_reader import python_value

_NULLS = ("null", "None")


class ArgumentValue:
    """A value without quotes, converted to JSON as it arrives: `add` its text, then `end` it.

    An argument that can be a string is one, to the last character. Any other value is JSON or a Python literal, or else
    a string too.
    """

    def __init__(self, argument: Argument) -> None:
        """Start a value."""
        self._is_text = argument.is_text
        self._nulls = _NULLS if argument.is_nullable else ()
        self._is_open = False  # whether the opening quote is written
        self._held: list[str] = []

    def add(self, text: str) -> str:
        """Return the JSON of a piece of text."""
        if self._is_open:
            return _quoted(text)[1:-1]
        self._held.append(text)
        if not self._is_text:
            return ""
        text = "".join(self._held)
        if not text or any(null.startswith(text) for null in self._nulls):
            return ""
        self._is_open = True
        return _quoted(text)[:-1]

    def end(self) -> str:
        """Return the rest of the JSON."""
        text = "".join(self._held)
        if self._is_open:
            return '"'
        if self._is_text:
            return "null" if text in self._nulls else _quoted(text)
        return json_of(text)


def json_of(text: str) -> str:
    """Return a value as JSON: text that is JSON or a Python literal as its value, other text as a string."""
    stripped = text.strip()
    try:
        json.loads(stripped, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return python_value(stripped) or _quoted(text)
    return stripped


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
