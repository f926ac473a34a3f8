"""The streaming parser of tool calls: content, markers, and what a format writes between them.

Text that is not a call of one of the request's tools stays content, to the last character. The result does not depend
on the boundaries of the pieces. The time is linear in the length of the text.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from infrs.text.tools.events import Content, Event

FENCE = "```"
_BRACKETS = ("<", "[")  # such a marker is rarely text, unlike a fence or a word
_WORD_CHARS = 3  # as much of the start of a word says little
_BETWEEN = re.compile(r"[\s,;\]]*")

Phase = Callable[[], Iterator[Event | None]]


@dataclass(frozen=True, slots=True)
class Syntax:
    """The markers of a format. No start marker is a prefix of another.

    starts: markers before one call or a list of calls. ends: markers after them. call_ends: markers after a call,
    inside the block that an end marker closes. inner: markers inside calls. bare: characters that open a call at the
    start of an answer without a marker.
    """

    starts: tuple[str, ...]
    ends: tuple[str, ...] = ()
    call_ends: tuple[str, ...] = ()
    inner: tuple[str, ...] = ()
    bare: str = ""

    @property
    def markers(self) -> tuple[str, ...]:
        """Return the markers that a parser needs in the text, even if they are control tokens."""
        return (*self.starts, *self.ends, *self.call_ends, *self.inner)


class CallParser(ABC):
    """A parser of one answer: `feed` its text, and `flush` at its end.

    A subclass reads calls. It implements `_call`, the phase after a start marker. A phase consumes some of `_rest` and
    yields events; it sets `_phase` to the next one, and returns if it needs more text. A phase that withholds text
    appends it to `_undo`. The phase that has read a call's name yields CallStart if `_take` accepts the name, else
    `_refuse()`. After the call it sets `_phase` to `_between`.
    """

    def __init__(self, syntax: Syntax, names: Collection[str], max_calls: int | None = None) -> None:
        """Start an answer. `names`: the tools of the request. `max_calls`: text after this many calls is dropped."""
        self._syntax = syntax
        self._names = frozenset(names)
        self._calls_left = max_calls
        self._any_start = re.compile("|".join(map(re.escape, syntax.starts)) or "(?!)")
        self._phase: Phase = self._text
        self._rest = ""  # not read yet
        self._space: list[str] = []  # whitespace without text after it so far: it is dropped before a call
        self._undo: list[str] = []  # becomes content if the started call is not a call
        self._begun = False  # whether any text but whitespace has come
        self._in_block = False  # whether a start marker has no end marker yet
        self._bare = syntax.bare
        self._is_forced = False  # whether the answer is nothing but calls

    @abstractmethod
    def _call(self) -> Iterator[Event | None]:
        """Read a call; the text begins after its start marker."""

    def _may_be_call(self) -> bool:
        """Return whether the text withheld since a start marker can be the start of a call."""
        return True

    def _begins_call(self) -> bool:
        """Return whether another call follows without a marker; set its phase if so."""
        return False

    def expect_form(self) -> None:
        """Expect structured output instead of plain text: a bare object is output, and only a list is calls.

        The grammar of such an answer makes the same distinction, or is refused.
        """
        self._bare = self._bare.replace("{", "")

    def expect_call(self) -> None:
        """Expect calls only: what a limit cuts is the start of a call, to the first character."""
        self._is_forced = True

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
        is_text = self._phase == self._text
        starts_call = self._starts_marker() if is_text else bool(self._undo) and self._may_be_call()
        held = [*self._space, *self._undo, self._rest]
        if not (is_text or self._undo) or (cut and starts_call):
            held = []
        self._phase, self._rest, self._space, self._undo = self._done, "", [], []
        text = "".join(held)
        return [Content(text)] if text else []

    def _starts_marker(self) -> bool:
        """Return whether the withheld start of a marker is rarely text.

        The start of a fence is text: code has fences too.
        """
        return self._is_forced or self._rest.startswith(_BRACKETS) or len(self._rest) > _WORD_CHARS

    def _text(self) -> Iterator[Event | None]:
        """Read content, up to a marker."""
        if self._bare and not self._begun:
            stripped = self._rest.lstrip()
            if stripped and stripped[0] in self._bare:
                self._space.append(self._rest[: len(self._rest) - len(stripped)])
                self._rest = stripped
                self._open_call("")
                return
        found = self._any_start.search(self._rest)
        if found:
            yield self._content(self._rest[: found.start()])
            self._rest = self._rest[found.end() :]
            self._open_call(found[0])
            return
        keep = held_back(self._rest, self._syntax.starts)
        shown, self._rest = self._rest[: len(self._rest) - keep], self._rest[len(self._rest) - keep :]
        yield self._content(shown)

    def _open_call(self, marker: str) -> None:
        """Begin a call after its marker, or a bare call if that is empty."""
        self._begun = True
        self._undo = [*self._space, marker]
        self._space = []
        self._in_block = bool(marker)
        self._phase = self._call

    def _between(self) -> Iterator[Event | None]:
        """Read the text after a call: another call, an end marker, or content."""
        self._undo = []
        if self._calls_left == 0:
            self._phase = self._done
            return
        skipped = _BETWEEN.match(self._rest)
        rest = self._rest = self._rest[skipped.end() if skipped else 0 :]
        syntax = self._syntax
        ends = (*syntax.call_ends, *syntax.ends) if self._in_block else ()
        marker = next((marker for marker in (*ends, *syntax.starts) if rest.startswith(marker)), None)
        if marker is not None:
            self._rest = rest[len(marker) :]
            if marker not in ends:
                self._open_call(marker)
                return
            self._in_block = marker in syntax.call_ends
            if self._rest:
                yield from self._between()
        elif rest and not self._begins_call() and not _is_partial(rest, (*ends, *syntax.starts)):
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
        self._undo = []
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


def held_back(text: str, markers: tuple[str, ...]) -> int:
    """Return the length of the longest suffix of `text` that is a prefix of a marker."""
    longest = max(map(len, markers), default=1) - 1
    first = {marker[:1] for marker in markers}
    ends = (text[-length:] for length in range(min(longest, len(text)), 0, -1) if text[-length] in first)
    return next((len(end) for end in ends if _is_partial(end, markers)), 0)


def _is_partial(text: str, markers: tuple[str, ...]) -> bool:
    return any(marker.startswith(text) for marker in markers)
