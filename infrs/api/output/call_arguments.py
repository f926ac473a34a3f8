"""The arguments of a tool call as an object."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json


def as_object(text: str) -> dict[str, Any]:
    """Return the arguments. Of arguments that are cut, return the complete part, as Anthropic's clients do."""
    try:
        value = from_json(text or "{}", allow_partial=True)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"INVALID_JSON": text}
