"""The parser of formats with JSON arguments: a JSON object with the name, or the name in front of the arguments."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from pydantic_core import from_json

from infrs.text.tools.events import Arguments, CallStart, Event
from infrs.text.tools.parser import CallParser, Phase, Syntax

NAME_PATTERN = r"([\w.-]{1,128})"  # of a tool
_HEAD_CHARS = 512  # if the name and the first bracket come later, the whole call is read before it is shown
_LEAD_CHARS = 160
_NAMED_CHARS = 320  # with the name
_FIRST_KEY = re.compile(r'\{\s*(?:"([^"\\]{0,32})"|[^"\s])')
_STRUCTURE = re.compile(r'\\(?:.|\Z)|["{}\[\]]', re.DOTALL)
_LEAD = re.compile(rf"[\w\s.\[\]-]{{0,{_LEAD_CHARS + 1}}}", re.ASCII)
_LEAD_WORDS = ("json", "tool_code", "tool_call")
_JSON_LEAD = re.compile(rf"(?:{'|'.join(_LEAD_WORDS)})?\s*\[?\s*")
_DISTINCT = ("<", "[")  # a marker that begins so is rarely text


@dataclass(frozen=True, slots=True)
class Head:
    """What a call has before its arguments.

    name_key: the key of the name in a call's object; empty if the name is itself the key of the arguments. id_key: the
    key of an id that can come first; empty if none.
    named: a pattern of the text between a start marker and the brace of the arguments, with the name as its group, for
    calls that are not objects; empty if the format has none.
    """

    name_key: str = "name"
    id_key: str = ""
    named: str = ""

    @property
    def keys(self) -> frozenset[str]:
        """Return all keys that a call's object can have; empty if they are names."""
        if not self.name_key:
            return frozenset()
        return frozenset({self.name_key, self.id_key, "arguments", "parameters", "type", "function", "id"} - {""})

    @property
    def pattern(self) -> re.Pattern[str]:
        """Return the pattern of a call's object up to its arguments, with the name as its group."""
        if not self.name_key:
            return re.compile(rf'\{{\s*"{NAME_PATTERN}"\s*:\s*(?=\{{)', re.ASCII)
        skipped = rf'(?:"{self.id_key}"\s*:\s*"[^"\\]{{0,128}}"\s*,\s*)?' if self.id_key else ""
        keys = rf'"{self.name_key}"\s*:\s*"{NAME_PATTERN}"\s*,\s*"(?:arguments|parameters)"'
        return re.compile(rf"\{{\s*{skipped}{keys}\s*:\s*(?=\{{)", re.ASCII)


JSON_HEAD = Head()


class JsonCallParser(CallParser):
    """A parser of calls with JSON arguments, which it streams as they grow."""

    def __init__(
        self, syntax: Syntax, names: Collection[str], max_calls: int | None = None, head: Head = JSON_HEAD
    ) -> None:
        """Start an answer, as CallParser does."""
        super().__init__(syntax, names, max_calls)
        self._keys, self._name_key = head.keys or self._names, head.name_key
        self._object_head = head.pattern
        self._named_head = re.compile(head.named, re.ASCII) if head.named else None
        self._head = ""
        self._nesting = _Nesting()  # of the call's object
        self._inner, self._then = self._nesting, self._between  # of its arguments, and the phase after them

    def _call(self) -> Iterator[Event | None]:
        """Read the text between a marker and the brace of its call or arguments."""
        if self._named_head is not None:
            brace = self._rest.find("{", 0, _NAMED_CHARS)
            if brace < 0 and len(self._rest) <= _NAMED_CHARS:
                return
            named = self._named_head.fullmatch(self._rest, 0, max(brace, 0))
            if named and self._take(named[1]):
                self._rest = self._rest[brace:]
                yield CallStart(named[1])
                self._begin_arguments(self._between)
                return
        match = _LEAD.match(self._rest)
        end = match.end() if match else 0
        if end == len(self._rest) and end <= _LEAD_CHARS:
            return
        lead = self._rest[:end]
        if self._rest[end : end + 1] == "{" and end <= _LEAD_CHARS and _JSON_LEAD.fullmatch(lead):
            self._undo.append(lead)
            self._rest = self._rest[end:]
            self._begin_object()
        else:
            yield self._refuse()

    def _may_be_call(self) -> bool:
        """Return whether the text withheld since a start marker can be the start of a call."""
        if self._phase == self._object:
            return self._may_begin_call("".join(self._undo[self._undo_start() :]))
        is_distinct = self._undo[-1].startswith(_DISTINCT)  # the marker
        return (
            is_distinct or bool(_JSON_LEAD.fullmatch(self._rest)) or any(w.startswith(self._rest) for w in _LEAD_WORDS)
        )

    def _begins_call(self) -> bool:
        if self._rest.startswith("{"):
            self._begin_object()
            return True
        return False

    def _begin_object(self) -> None:
        self._head, self._nesting = "", _Nesting()
        self._phase = self._object

    def _object(self) -> Iterator[Event | None]:
        """Read a call's object, up to its arguments if its name comes first, else to its end."""
        piece, self._rest = self._rest, ""
        end = self._nesting.end(piece)
        if end is not None:
            piece, self._rest = piece[:end], piece[end:]
        if len(self._head) < _HEAD_CHARS:
            known = len(self._head)
            head = (self._head + piece)[:_HEAD_CHARS]
            first, match = _FIRST_KEY.match(head), self._object_head.match(head)
            if first and first[1] not in self._keys:
                self._back_to(first.end() - known, piece)
                yield self._refuse()
                return
            if match:
                self._back_to(match.end() - known, piece)
                if not self._take(match[1]):
                    yield self._refuse()
                    return
                yield CallStart(match[1])
                self._nesting = _Nesting(depth=1)
                self._begin_arguments(self._tail)
                return
            self._head = head
        self._undo.append(piece)
        if end is not None:
            call = self._whole_call("".join(self._undo[self._undo_start() :]))
            if call and self._take(call[0]):
                yield CallStart(call[0])
                yield Arguments(call[1])
                self._phase = self._between
            else:
                yield self._refuse()

    def _undo_start(self) -> int:
        """Return the index in `_undo` of the first piece with an opening brace."""
        return next(index for index, piece in enumerate(self._undo) if piece.startswith("{"))

    def _back_to(self, length: int, piece: str) -> None:
        """Consume `length` characters of a piece, and read the rest again."""
        self._undo.append(piece[:length])
        self._rest = piece[length:] + self._rest

    def _begin_arguments(self, then: Phase) -> None:
        self._inner, self._then = _Nesting(), then
        self._phase = self._arguments

    def _arguments(self) -> Iterator[Event | None]:
        end = self._inner.end(self._rest)
        piece, self._rest = self._rest[:end], "" if end is None else self._rest[end:]
        yield Arguments(piece)
        if end is not None:
            self._phase = self._then

    def _tail(self) -> Iterator[Event | None]:
        """Skip the text after the arguments in a call's object."""
        end = self._nesting.end(self._rest)
        self._rest = "" if end is None else self._rest[end:]
        if end is not None:
            self._phase = self._between
        yield None

    def _whole_call(self, text: str) -> tuple[str, str] | None:
        """Return name and arguments of a call's object, in any order or inside `function`; None if it is no call."""
        try:
            call = json.loads(text)
            if not self._name_key:
                call = dict(zip(("name", "arguments"), *call.items(), strict=True))
            call = call.get("function", call)
            name = call[self._name_key or "name"]
            arguments = call["arguments"] if "arguments" in call else call.get("parameters", {})
            if isinstance(arguments, str):
                arguments = json.loads(arguments)
            if isinstance(name, str) and isinstance(arguments, dict):
                return name, json.dumps(arguments, allow_nan=False)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass
        return None

    def _may_begin_call(self, text: str) -> bool:
        """Return whether a call's object can start with `text`, which can end anywhere."""
        try:
            call = from_json(text, allow_partial="trailing-strings")
        except ValueError:
            return False
        if not set(call) <= self._keys or not "function".startswith(str(call.get("type", ""))):
            return False
        inner = call.get("function", call)
        name = inner.get(self._name_key, "") if isinstance(inner, dict) else ""
        return isinstance(name, str) and any(known.startswith(name) for known in self._names)


class _Nesting:
    """A scanner of brackets and strings in JSON that arrives in pieces."""

    def __init__(self, depth: int = 0) -> None:
        self._depth = depth
        self._in_string = False
        self._escaped = False

    def end(self, text: str) -> int | None:
        """Return the index after the bracket in `text` that closes the outermost; None if it is still open."""
        start, self._escaped = int(self._escaped and bool(text)), self._escaped and not text
        for match in _STRUCTURE.finditer(text, start):
            mark = match[0]
            if mark == '"':
                self._in_string = not self._in_string
            elif mark[0] == "\\":
                self._escaped = len(mark) == 1
            elif not self._in_string:
                self._depth += 1 if mark in "{[" else -1
                if self._depth <= 0:
                    return match.end()
        return None
