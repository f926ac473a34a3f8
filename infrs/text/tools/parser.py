"""The streaming parser of all formats: JSON calls between markers.

A call is a JSON object with the name of one of the request's tools and an object of arguments. Anything else stays
content, to the last character. The result does not depend on the boundaries of the pieces. The time is linear in the
length of the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pydantic_core import from_json

from infrs.text.tools.events import Arguments, CallStart, Content, Event

FENCE = "```"
_HEAD_CHARS = 512  # if the name and the first bracket come later, the whole call is read before it is shown
_LEAD_CHARS = 160
_KEYS = ("name", "arguments", "parameters", "type", "function", "id")
_FIRST_KEY = re.compile(r'\{\s*(?:"([^"\\]{0,32})"|[^"\s])')
_HEAD = re.compile(r'\{\s*"name"\s*:\s*"([\w.-]{1,64})"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)', re.ASCII)
_STRUCTURE = re.compile(r'\\(?:.|\Z)|["{}\[\]]', re.DOTALL)
_LEAD = re.compile(rf"[\w\s.\[\]-]{{0,{_LEAD_CHARS + 1}}}", re.ASCII)
_LEAD_WORDS = ("json", "tool_code", "tool_call")
_JSON_LEAD = re.compile(rf"(?:{'|'.join(_LEAD_WORDS)})?\s*\[?\s*")
_NAMED_LEAD = re.compile(r"\s*([\w.-]{1,64})\s*(?:\[CALL_ID\]\w{0,64})?\s*(?:\[ARGS\])?\s*", re.ASCII)
_BRACKETS = ("<", "[")  # such a marker is rarely text, unlike a fence or a word
_BETWEEN = re.compile(r"[\s,;\]]*")


@dataclass(frozen=True, slots=True)
class Syntax:
    """The markers of a format. No start marker is a prefix of another.

    starts: markers before one call or a list of calls. ends: markers after them. inner: markers inside calls.
    bare: whether a call at the start of an answer needs no marker. named: whether the name and the arguments alone can
    follow the marker.
    """

    starts: tuple[str, ...]
    ends: tuple[str, ...] = ()
    inner: tuple[str, ...] = ()
    bare: bool = False
    named: bool = False


class CallParser:
    """A parser of one answer: `feed` its text, and `flush` at its end."""

    def __init__(self, syntax: Syntax, names: frozenset[str], max_calls: int | None = None) -> None:
        """Start an answer. `names`: the tools of the request. `max_calls`: text after this many calls is dropped."""
        self._syntax = syntax
        self._names = names
        self._calls_left = max_calls
        self._any_start = re.compile("|".join(map(re.escape, syntax.starts)) or "(?!)")
        self._phase: Callable[[], Iterator[Event | None]] = self._text
        self._rest = ""  # not read yet
        self._space: list[str] = []  # whitespace without text after it so far: it is dropped before a call
        self._undo: list[str] = []  # becomes content if the started call is not a call
        self._head = ""
        self._nesting = _Nesting()
        self._begun = False  # whether any text but whitespace has come
        self._in_block = False  # whether a start marker has no end marker yet
        self._bare_openings: tuple[str, ...] = ("{", "[")

    @property
    def markers(self) -> tuple[str, ...]:
        """Return the markers that the parser needs in the text, even if they are control tokens."""
        return (*self._syntax.starts, *self._syntax.ends, *self._syntax.inner)

    def expect_form(self) -> None:
        """Expect structured output instead of plain text: a bare object is output, and only a list is calls.

        The grammar of such an answer makes the same distinction, or is refused.
        """
        self._bare_openings = ("[",)

    def feed(self, text: str) -> list[Event]:
        """Return the events of the next piece of text."""
        self._rest += text
        events: list[Event] = []
        phase = None
        while self._rest and phase is not self._phase:
            phase = self._phase
            events += [event for event in phase() if event is not None]
        return events

    def flush(self, *, cut: bool = False) -> list[Event]:
        """Return withheld text as content. `cut`: a limit ended the answer, so the start of a call is dropped.

        Text that cannot start a call of these tools stays content.
        """
        held = [*self._space, *self._undo, self._rest]
        if self._phase in (self._arguments, self._tail, self._between, self._done) or (cut and self._may_be_call()):
            held = []
        self._phase, self._rest, self._space, self._undo = self._done, "", [], []
        text = "".join(held)
        return [Content(text)] if text else []

    def _may_be_call(self) -> bool:
        """Return whether withheld text can be the start of a call or of its marker."""
        if self._phase == self._text:
            return self._rest.startswith(_BRACKETS)
        if self._phase == self._object:
            return _may_begin_call("".join(self._undo[self._undo_start() :]), self._names)
        is_distinct = self._undo[-1].startswith(_BRACKETS)  # the marker; the phase is _lead
        return (
            is_distinct or bool(_JSON_LEAD.fullmatch(self._rest)) or any(w.startswith(self._rest) for w in _LEAD_WORDS)
        )

    def _text(self) -> Iterator[Event | None]:
        """Read content, up to a marker."""
        if self._syntax.bare and not self._begun:
            stripped = self._rest.lstrip()
            if stripped[:1] in self._bare_openings:
                self._space.append(self._rest[: len(self._rest) - len(stripped)])
                self._rest = stripped
                self._open_call("")
                return
        found = self._any_start.search(self._rest)
        if found:
            yield self._content(self._rest[: found.start()])
            self._rest = self._rest[found.end() :]
            self._in_block = True
            self._open_call(found[0])
            return
        keep = self._partial(self._rest, self._syntax.starts)
        shown, self._rest = self._rest[: len(self._rest) - keep], self._rest[len(self._rest) - keep :]
        yield self._content(shown)

    def _open_call(self, marker: str) -> None:
        self._begun = True
        self._undo = [*self._space, marker]
        self._space = []
        self._phase = self._lead

    def _lead(self) -> Iterator[Event | None]:
        """Read the text between a marker and the brace of its call."""
        match = _LEAD.match(self._rest)
        end = match.end() if match else 0
        if end == len(self._rest) and end <= _LEAD_CHARS:
            return
        lead, is_object = self._rest[:end], self._rest[end : end + 1] == "{" and end <= _LEAD_CHARS
        named = _NAMED_LEAD.fullmatch(lead) if self._syntax.named else None
        if is_object and named and self._take(named[1]):
            self._rest = self._rest[end:]
            yield CallStart(named[1])
            self._begin_arguments()
        elif is_object and _JSON_LEAD.fullmatch(lead):
            self._undo.append(lead)
            self._rest = self._rest[end:]
            self._begin_object()
        else:
            yield self._refuse()

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
            first, match = _FIRST_KEY.match(head), _HEAD.match(head)
            if first and first[1] not in _KEYS:
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
                self._begin_arguments(then=self._tail)
                return
            self._head = head
        self._undo.append(piece)
        if end is not None:
            call = _whole_call("".join(self._undo[self._undo_start() :]))
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

    def _begin_arguments(self, then: Callable[[], Iterator[Event | None]] | None = None) -> None:
        self._undo = []
        self._inner, self._then = _Nesting(), then or self._between
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

    def _between(self) -> Iterator[Event | None]:
        """Read the text after a call: another call, an end marker, or content."""
        if self._calls_left == 0:
            self._phase = self._done
            return
        skipped = _BETWEEN.match(self._rest)
        rest = self._rest = self._rest[skipped.end() if skipped else 0 :]
        ends = self._syntax.ends if self._in_block else ()
        for marker in (*ends, *self._syntax.starts):
            if rest.startswith(marker):
                self._rest = rest[len(marker) :]
                self._in_block = marker not in ends
                if self._in_block:
                    self._open_call(marker)
                elif self._rest:
                    yield from self._between()
                return
        if rest.startswith("{"):
            self._begin_object()
        elif rest and not any(marker.startswith(rest) for marker in (*ends, *self._syntax.starts)):
            self._in_block = False
            self._phase = self._text
        yield None

    def _done(self) -> Iterator[Event | None]:
        self._rest = ""
        yield None

    def _take(self, name: str) -> bool:
        """Return whether `name` is a tool, and count the call if so."""
        if name not in self._names:
            return False
        if self._calls_left is not None:
            self._calls_left -= 1
        return True

    def _refuse(self) -> Event | None:
        """Return withheld text as content, because it is not a call."""
        self._in_block = False
        self._phase = self._text
        text = "".join(self._undo)
        self._undo = []
        return self._content(text)

    def _content(self, text: str) -> Content | None:
        """Return text as content, without the whitespace at its end."""
        shown = text.rstrip()
        if not shown:
            self._space.append(text)
            return None
        self._begun = True
        before, self._space = "".join(self._space), [text[len(shown) :]]
        return Content(before + shown)

    @staticmethod
    def _partial(text: str, markers: tuple[str, ...]) -> int:
        """Return the length of the longest suffix of `text` that is a prefix of a marker."""
        longest = max(map(len, markers), default=1) - 1
        ends = (text[-length:] for length in range(min(longest, len(text)), 0, -1))
        return next((len(end) for end in ends if any(marker.startswith(end) for marker in markers)), 0)


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


def _whole_call(text: str) -> tuple[str, str] | None:
    """Return name and arguments of a call's object, in any order or inside `function`; None if it is not a call."""
    try:
        call = json.loads(text)
        call = call.get("function", call)
        name, arguments = call["name"], call["arguments"] if "arguments" in call else call.get("parameters", {})
        if isinstance(arguments, str):
            arguments = json.loads(arguments)
        if isinstance(name, str) and isinstance(arguments, dict):
            return name, json.dumps(arguments, allow_nan=False)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    return None


def _may_begin_call(text: str, names: frozenset[str]) -> bool:
    """Return whether a call's object can start with `text`, which can end anywhere."""
    try:
        call = from_json(text, allow_partial="trailing-strings")
    except ValueError:
        return False
    if not set(call) <= set(_KEYS) or not "function".startswith(str(call.get("type", ""))):
        return False
    inner = call.get("function", call)
    name = inner.get("name", "") if isinstance(inner, dict) else ""
    return isinstance(name, str) and any(known.startswith(name) for known in names)
