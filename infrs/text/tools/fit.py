"""Formats with JSON arguments from the text that a chat template writes: one fitted to it, or a new one."""

from __future__ import annotations

import json
import re
from dataclasses import replace

from infrs.text.tools.call_grammar import Frame, Lark, Text
from infrs.text.tools.json_format import NAME, JsonFormat
from infrs.text.tools.json_parser import NAME_PATTERN, Head
from infrs.text.tools.parser import Syntax
from infrs.text.tools.probe import PROBE_ARGUMENTS, PROBE_TOOL, RenderedCalls

_ID = r"call\d{5}"  # as in `written_calls`
_ARGUMENTS = json.dumps(PROBE_ARGUMENTS)
_INDENTED = rf"\{{\s*{re.escape(_ARGUMENTS[1:-1])}\s*\}}"
_CALL = re.compile(rf"{PROBE_TOOL.name}(.*?){_INDENTED}", re.DOTALL)
_END_OF_LIST = re.compile(rf'(?:, "id": "{_ID}")?[\s\]}}]*')
_MARKER = re.compile(r"<[^<>\s{}]{1,62}>|\[[A-Z_]{2,62}\]")
# What differs from call to call: an id, which models may leave out where it is a key, and the index of a call.
_VARYING = re.compile(rf'(?P<key>, "id": "{_ID}")|(?P<id>{_ID})|(?<=[":])(?P<index>[01])(?=["<])')
_TERMS = {"key": '(/, "id": "[a-zA-Z0-9]{9}"/)?', "id": "/[a-zA-Z0-9]{9}/", "index": "/[0-9]{1,2}/"}


def fitted(tool_format: JsonFormat, calls: RenderedCalls) -> JsonFormat:
    """Return a format that writes calls as a template does: the same if it does, or if the template's are not clear."""
    if _VARYING.sub("\0", calls.two.strip()) == _written(tool_format):
        return tool_format
    parts = _CALL.split(calls.two)
    if len(parts) != 5 or len(_CALL.split(calls.one)) != 3:
        return tool_format
    before, middle, between, _, after = parts
    syntax = tool_format.syntax
    start = min((before.find(marker) for marker in syntax.starts if marker in before), default=-1)
    if start < 0 and not syntax.bare:
        return tool_format
    before = before[start:] if start >= 0 else before.lstrip()
    ends = [after.rindex(marker) + len(marker) for marker in (*syntax.ends, *syntax.call_ends) if marker in after]
    listed = _END_OF_LIST.match(after)
    end = max(ends, default=listed.end() if listed else 0)
    frame = Frame(*(_as_text(part, syntax.markers) for part in (before, between, after[:end])))
    opening = (NAME, *_as_text(middle, syntax.markers))
    return replace(tool_format, frame=frame, alone=None, opening=opening, closing=())


def derived(calls: RenderedCalls) -> JsonFormat | None:
    """Return a format of calls between markers that no format knows; None if there are none, or no JSON.

    A template can write one call only. Then the next call is expected in markers of its own.
    """
    calls = calls if calls.two else replace(calls, two=calls.one + calls.one)
    parts = _CALL.split(calls.two)
    if len(parts) != 5:
        return None
    before, middle, between, _, after = parts
    marker = _MARKER.match(before.lstrip())
    if marker is None:
        return None
    start, rest = marker[0], before.lstrip()[marker.end() :]
    ends = tuple(dict.fromkeys(found[0] for found in _MARKER.finditer(after)))
    inner = (found[0] for text in (rest, middle, between) for found in _MARKER.finditer(text))
    markers = tuple(dict.fromkeys(found for found in inner if found not in (start, *ends)))
    # The marker of a call inside the block of all calls comes again between calls.
    starts = (start, *(found for found in markers if found in rest and found in between))
    syntax = Syntax(starts, ends[-1:], ends[:-1], tuple(found for found in markers if found not in starts))
    named = "" if rest.endswith('"') else f"(?:{_loose(rest)})?{_loose('')}{NAME_PATTERN}{_loose(middle)}"
    return fitted(JsonFormat(signs=(), syntax=syntax, head=Head(named=named)), calls)


def _loose(text: str) -> str:
    """Return a pattern of a text with any white space around its words."""
    return r"\s*".join(["", *map(re.escape, text.split()), ""])


def _written(tool_format: JsonFormat) -> str:
    """Return two calls as the format writes them, with a NUL for what varies."""
    frame, opening = tool_format.frame, tool_format.opening_of(PROBE_TOOL.name)
    call = (*opening, _ARGUMENTS, *tool_format.closing)
    text = (*frame.before, *call, *frame.between, *call, *frame.after)
    return "".join("\0" if isinstance(part, Lark) else part for part in text)


def _as_text(text: str, markers: tuple[str, ...]) -> Text:
    """Return a text with markers as items of their own, and terms for what varies."""
    marker = re.compile(f"({'|'.join(map(re.escape, markers))})")
    parts: list[str | Lark] = []
    end = 0
    for found in _VARYING.finditer(text):
        parts += [*marker.split(text[end : found.start()]), Lark(_TERMS[found.lastgroup or ""])]
        end = found.end()
    return tuple(part for part in (*parts, *marker.split(text[end:])) if part != "")
