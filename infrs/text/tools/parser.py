"""The parser that all formats share: JSON calls between markers, read as they come.

A call is a JSON object with a name that the request knows and an object of arguments. What looks like one and is none
stays content, to the last character. The outcome does not depend on how the text is cut into pieces, and the time is
linear in its length.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pydantic_core import from_json

from infrs.text.tools.events import Arguments, CallStart, Content, Event

FENCE = "```"
_HEAD_CHARS = 512  # a call whose name and first bracket come later is read whole before it is shown
_LEAD_CHARS = 160
_KEYS = ("name", "arguments", "parameters", "type", "function", "id")
_FIRST_KEY = re.compile(r'\{\s*(?:"([^"\\]{0,32})"|[^"\s])')
_HEAD = re.compile(r'\{\s*"name"\s*:\s*"([\w.-]{1,64})"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)', re.ASCII)
_STRUCTURE = re.compile(r'\\(?:.|\Z)|["{}\[\]]', re.DOTALL)
_LEAD = re.compile(rf"[\w\s.\[\]-]{{0,{_LEAD_CHARS + 1}}}", re.ASCII)
_LEAD_WORDS = ("json", "tool_code", "tool_call")
_JSON_LEAD = re.compile(rf"(?:{'|'.join(_LEAD_WORDS)})?\s*\[?\s*")
_NAMED_LEAD = re.compile(r"\s*([\w.-]{1,64})\s*(?:\[CALL_ID\]\w{0,64})?\s*(?:\[ARGS\])?\s*", re.ASCII)
_BRACKETS = ("<", "[")  # a marker that begins so is seldom text, unlike a fence or a word
_BETWEEN = re.compile(r"[\s,;\]]*")


@dataclass(frozen=True, slots=True)
class Syntax:
    """Where calls stand in a format. No start marker is the beginning of another.

    starts: markers before one call or a list of them. ends: markers after them. inner: markers inside calls.
    bare: whether an answer that begins with a call needs no marker. named: whether the marker may be followed by the
    name and then only the arguments.
    """

    starts: tuple[str, ...]
    ends: tuple[str, ...] = ()
    inner: tuple[str, ...] = ()
    bare: bool = False
    named: bool = False


class CallParser:
    """Streams one answer: `feed` text, and `flush` when it has ended."""

    def __init__(self, syntax: Syntax, names: frozenset[str], max_calls: int | None = None) -> None:
        """`names`: the tools there are. `max_calls`: text after so many calls is dropped."""
        self._syntax = syntax
        self._names = names
        self._calls_left = max_calls
        self._any_start = re.compile("|".join(map(re.escape, syntax.starts)) or "(?!)")
        self._phase: Callable[[], Iterator[Event | None]] = self._text
        self._rest = ""  # not read yet
        self._space: list[str] = []  # that has no text after it so far: none of it is shown before a call
        self._undo: list[str] = []  # what becomes content if a call that began is none
        self._head = ""
        self._nesting = _Nesting()
        self._begun = False  # whether anything but space has come
        self._in_block = False  # whether a start marker waits for its end marker
        self._bare_openings: tuple[str, ...] = ("{", "[")

    @property
    def markers(self) -> tuple[str, ...]:
        """What must be seen of an answer, though it be control tokens."""
        return (*self._syntax.starts, *self._syntax.ends, *self._syntax.inner)

    def expect_form(self) -> None:
        """An answer without calls is of a form that was asked for: a bare object is of the form, only a list is calls.

        The grammar of such an answer tells them apart in the same way, or is refused.
        """
        self._bare_openings = ("[",)

    def feed(self, text: str) -> list[Event]:
        """What the next piece of text means."""
        self._rest += text
        events: list[Event] = []
        phase = None
        while self._rest and phase is not self._phase:
            phase = self._phase
            events += [event for event in phase() if event is not None]
        return events

    def flush(self, *, cut: bool = False) -> list[Event]:
        """End the answer: what was held back is content. `cut`: a limit ended it, so the beginning of a call is none.

        A beginning that no call of these tools can have stays content.
        """
        held = [*self._space, *self._undo, self._rest]
        if self._phase in (self._arguments, self._tail, self._between, self._done) or (cut and self._may_be_call()):
            held = []
        self._phase, self._rest, self._space, self._undo = self._done, "", [], []
        text = "".join(held)
        return [Content(text)] if text else []

    def _may_be_call(self) -> bool:
        """Whether what is held back can be the beginning of a call or of its marker."""
        if self._phase == self._text:
            return self._rest.startswith(_BRACKETS)
        if self._phase == self._object:
            return _may_begin_call("".join(self._undo[self._undo_start() :]), self._names)
        is_telling = self._undo[-1].startswith(_BRACKETS)  # the marker; the phase is _lead
        return (
            is_telling or bool(_JSON_LEAD.fullmatch(self._rest)) or any(w.startswith(self._rest) for w in _LEAD_WORDS)
        )

    def _text(self) -> Iterator[Event | None]:
        """Content, up to a marker."""
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
        """Between a marker and the brace of its call."""
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
        """A call's object, up to its arguments if its name comes first, else to its end."""
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
        """Where in `_undo` the object begins: its first piece with a brace that opens it."""
        return next(index for index, piece in enumerate(self._undo) if piece.startswith("{"))

    def _back_to(self, length: int, piece: str) -> None:
        """Read a piece only as far as `length`; the rest of it is to be read again."""
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
        """What follows the arguments in a call's object; nobody asked for it."""
        end = self._nesting.end(self._rest)
        self._rest = "" if end is None else self._rest[end:]
        if end is not None:
            self._phase = self._between
        yield None

    def _between(self) -> Iterator[Event | None]:
        """After a call: another, the end of them, or text."""
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
        """Whether a call of `name` is one, and then count it."""
        if name not in self._names:
            return False
        if self._calls_left is not None:
            self._calls_left -= 1
        return True

    def _refuse(self) -> Event | None:
        """It is no call: show what was held back."""
        self._in_block = False
        self._phase = self._text
        text = "".join(self._undo)
        self._undo = []
        return self._content(text)

    def _content(self, text: str) -> Content | None:
        """Show text, but for the space at its end."""
        shown = text.rstrip()
        if not shown:
            self._space.append(text)
            return None
        self._begun = True
        before, self._space = "".join(self._space), [text[len(shown) :]]
        return Content(before + shown)

    @staticmethod
    def _partial(text: str, markers: tuple[str, ...]) -> int:
        """Length of the longest end of `text` that a marker begins with."""
        longest = max(map(len, markers), default=1) - 1
        ends = (text[-length:] for length in range(min(longest, len(text)), 0, -1))
        return next((len(end) for end in ends if any(marker.startswith(end) for marker in markers)), 0)


class _Nesting:
    """Follows brackets and strings through JSON that comes in pieces."""

    def __init__(self, depth: int = 0) -> None:
        self._depth = depth
        self._in_string = False
        self._escaped = False

    def end(self, text: str) -> int | None:
        """Index after the bracket in `text` that closes the outermost; None if it goes on."""
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
    """Name and arguments of a call's object in any order, or as the `function` of one; None if it is none."""
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
    """Whether a call's object can begin with `text`, which is cut anywhere."""
    try:
        call = from_json(text, allow_partial="trailing-strings")
    except ValueError:
        return False
    if not set(call) <= set(_KEYS) or not "function".startswith(str(call.get("type", ""))):
        return False
    inner = call.get("function", call)
    name = inner.get("name", "") if isinstance(inner, dict) else ""
    return isinstance(name, str) and any(known.startswith(name) for known in names)
