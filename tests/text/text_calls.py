"""Calls as each format writes them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from infrs.text.tools.call_grammar import Lark, Text
from infrs.text.tools.formats.harmony import Harmony
from infrs.text.tools.json_format import JsonFormat
from infrs.text.tools.tool_format import ToolFormat


def text_of(tool_format: ToolFormat, calls: Sequence[tuple[str, str]], *, alone: bool = False) -> str:
    """Return calls, each a name and its arguments as JSON. `alone`: as an answer that can have no other call."""
    if isinstance(tool_format, Harmony):
        heads = [f"<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>" for name, _ in calls]
        return "<|call|>".join(head + arguments for head, (_, arguments) in zip(heads, calls, strict=True))
    assert isinstance(tool_format, JsonFormat)
    frame = tool_format.alone if alone and tool_format.alone else tool_format.frame
    texts = [
        joined(tool_format.opening_of(name)) + arguments + joined(tool_format.closing) for name, arguments in calls
    ]
    return joined(frame.before) + joined(frame.between).join(texts) + joined(frame.after)


def joined(text: Text) -> str:
    """Return a text with 0, or as many zeros as its term requires, for what varies."""
    return "".join(part if isinstance(part, str) else _zeros(part) for part in text)


def _zeros(part: Lark) -> str:
    return next(zeros for zeros in ("0", "0" * 10) if re.fullmatch(part.term.strip("/"), zeros))


def is_bare(tool_format: ToolFormat) -> bool:
    """Return whether a call needs no marker."""
    return isinstance(tool_format, JsonFormat) and bool(tool_format.syntax.bare)
