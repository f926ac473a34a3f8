"""The arguments of a call in the notation of a programming language, converted to JSON as they arrive."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from infrs.text.tools.literals.notation import PYTHON, Notation

_MAX_WORD = 128  # of a key or a number; a longer word is a string
_SPACE = r"\s{0,16}"
_KEY = re.compile(rf"""([^\s=:,"'()\[\]{{}}]{{1,{_MAX_WORD}}}){_SPACE}[=:]""")
_KEY_PART = re.compile(rf"""[^\s=:,"'()\[\]{{}}]{{1,{_MAX_WORD}}}{_SPACE}""")
_WORD_END = re.compile(r"[,()\[\]{}]")
_CLOSERS = {"(": ")", "[": "]", "{": "}"}
_WORDS = {"True": "true", "False": "false", "None": "null", "true": "true", "false": "false", "null": "null"}
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|U([0-9A-Fa-f]{8})|([0-7]{1,3})|(u[0-9A-Fa-f]{4})|([\s\S]))")
_ESCAPE_CHARS = {"x": 4, "u": 6, "U": 10, **dict.fromkeys("01234567", 4)}  # length by the first character, else 2
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "a": "\a", "v": "\v", "/": "/"}
_CONTROLS |= {"\\": "\\", '"': '"', "'": "'"}


@dataclass(frozen=True, slots=True)
class _After:
    """What follows the closing quote of a string, and what can become that.

    Some templates write strings without escapes, so a quote before anything else is part of the string.
    """

    whole: re.Pattern[str]
    part: re.Pattern[str]


_NAME = rf"(?!\d)[\w$][\w.-]{{0,{_MAX_WORD - 1}}}"  # most tools' names of arguments; a quote before others is text
_AFTER_KEY = _After(re.compile(rf"{_SPACE}:"), re.compile(_SPACE))
_AFTER_ITEM = _After(re.compile(rf"{_SPACE}[,)\]}}]"), re.compile(_SPACE))
_AFTER_ARGUMENT = _After(
    re.compile(rf"{_SPACE}(?:\)|,{_SPACE}(?:\)|{_NAME}{_SPACE}=))"),
    re.compile(rf"{_SPACE}(?:,{_SPACE}(?:{_NAME}{_SPACE})?)?"),
)


@dataclass(slots=True)
class _Level:
    """An open list or object; the outermost is the object of the arguments."""

    close: str
    is_object: bool
    num_items: int = 0
    has_key: bool = False  # whether a key came, and its value did not


class LiteralReader:
    """A converter of one call's arguments: `read` their text, which starts after the opening bracket.

    Whatever the text is, the JSON is the start of an object, and a whole one at the end.
    """

    def __init__(self, notation: Notation, names: Sequence[str] = ()) -> None:
        """Start the arguments. `names`: of the parameters in order, for arguments without a keyword."""
        self._notation = notation
        self._names = names
        self._levels = [_Level(notation.close, is_object=True)]
        self._quote: str | None = None  # of the open string; empty for a long word
        self._special = _WORD_END  # what ends the open string, or escapes in it
        self._after = _AFTER_ARGUMENT  # what follows the string of the current argument
        self._after_quote = self._after  # what follows the open string
        self._is_key = False  # whether the open string is a key
        self._json: list[str] = ["{"]

    @property
    def is_over(self) -> bool:
        """Return whether the arguments are complete."""
        return not self._levels

    def read(self, text: str) -> tuple[str, str]:
        """Return the JSON of a piece of text, and the rest of the text: pass it again with more."""
        position: int | None = 0
        reached = 0
        while position is not None and position < len(text) and self._levels:
            position = self._structure(text, position) if self._quote is None else self._string(text, position)
            reached = reached if position is None else position
        json_text, self._json = "".join(self._json), []
        return json_text, text[reached:]

    def _structure(self, text: str, start: int) -> int | None:
        """Read a bracket, a key, a constant or an opening quote. Return its end; None if it is not whole."""
        level, mark = self._levels[-1], text[start]
        if mark.isspace() or mark in ",:":
            return start + 1
        if mark in ")]}":
            return self._close(mark, start)
        if level.is_object and not level.has_key:
            return self._key(text, start)
        return self._start_value(text, start)

    def _key(self, text: str, start: int) -> int | None:
        if key := _KEY.match(text, start):
            self._write_key(key[1])
            self._after = _AFTER_ARGUMENT
            return key.end()
        if _KEY_PART.fullmatch(text, start):
            return None
        num_items = self._levels[-1].num_items
        if len(self._levels) == 1 and num_items < len(self._names):
            self._write_key(self._names[num_items])
            self._after = _AFTER_ITEM  # another argument without a name can follow
            return start
        quote = self._opening_quote(text, start)
        if quote:
            self._is_key = True
            self._open_string(quote, _AFTER_KEY)
        return None if quote is None else start + (len(quote) or 1)  # other text is neither a key nor a value

    def _start_value(self, text: str, start: int) -> int | None:
        quote, mark = self._opening_quote(text, start), text[start]
        if quote is None:
            return None
        if not quote and mark not in _CLOSERS:
            return self._word(text, start)
        if quote:
            self._open_string(quote, self._after if len(self._levels) == 1 else _AFTER_ITEM)
        else:
            self._write_comma()
            self._json.append("{" if mark == "{" else "[")
            self._levels.append(_Level(_CLOSERS[mark], is_object=mark == "{"))
        return start + (len(quote) or 1)

    def _opening_quote(self, text: str, start: int) -> str | None:
        """Return the quote at a position; empty if there is none, None if the text ends before that is clear."""
        quotes, length = self._notation.quotes, len(text) - start
        if any(length < len(quote) and quote.startswith(text[start:]) for quote in quotes):
            return None
        return next((quote for quote in quotes if text.startswith(quote, start)), "")

    def _word(self, text: str, start: int) -> int | None:
        end = _WORD_END.search(text, start, start + _MAX_WORD)
        if end is not None:
            self._write_comma()
            self._json.append(_constant(text[start : end.start()].rstrip()))
            self._end_value()
            return end.start()
        if len(text) - start < _MAX_WORD:
            return None
        self._open_string("", _AFTER_ITEM)
        return start

    def _open_string(self, quote: str, after: _After) -> None:
        self._write_comma()
        self._json.append('"')
        self._quote, self._after_quote = quote, after
        ends = re.escape(quote) if quote else _WORD_END.pattern
        self._special = re.compile(ends + (r"|\\" if quote and self._notation.escapes else ""))

    def _string(self, text: str, start: int) -> int | None:
        """Read a part of the open string. Return its end; None if it is not whole."""
        quote = self._quote or ""
        found = self._special.search(text, start)
        if found is None:
            keep = next((n for n in range(len(quote) - 1, 0, -1) if text.endswith(quote[:n])), 0)
            end = max(len(text) - keep, start)
            self._write_text(text[start:end])
            return end if end > start else None
        if found.start() > start:
            self._write_text(text[start : found.start()])
            return found.start()
        if found[0] == "\\":
            return self._escape(text, start)
        if not quote:
            self._close_string()
            return start
        if not self._notation.escapes or self._after_quote.whole.match(text, found.end()):
            self._close_string()
        elif self._after_quote.part.fullmatch(text, found.end()):
            return None
        else:
            self._write_text(quote)
        return found.end()

    def _escape(self, text: str, start: int) -> int | None:
        if len(text) - start < _ESCAPE_CHARS.get(text[start + 1 : start + 2], 2):
            return None
        escape = _ESCAPE.match(text, start)
        if escape is None:  # impossible, because any character can follow
            return start + 1
        hexadecimal, octal, unit, other = escape[1] or escape[2], escape[3], escape[4], escape[5]
        if unit:  # perhaps half of a surrogate pair, which JSON writes alike
            self._json.append(f"\\{unit}")
        elif other:
            self._write_text(_CONTROLS.get(other, escape[0]))
        else:
            code = int(hexadecimal, 16) if hexadecimal else int(octal, 8)
            is_character = code <= 0x10FFFF and not 0xD800 <= code < 0xE000
            self._write_text(chr(code) if is_character else escape[0])
        return escape.end()

    def _close_string(self) -> None:
        self._json.append('"')
        self._quote = None
        if self._is_key:
            self._is_key = False
            self._json.append(": ")
            self._levels[-1].has_key = True
        else:
            self._end_value()

    def _close(self, mark: str, start: int) -> int:
        """Close a list or an object; another bracket is skipped."""
        level = self._levels[-1]
        if mark != level.close:
            return start + 1
        self._json.append(("null" if level.has_key else "") + ("}" if level.is_object else "]"))
        self._levels.pop()
        if self._levels:
            self._end_value()
        return start + 1

    def _write_key(self, key: str) -> None:
        self._write_comma()
        self._json.append(f"{json.dumps(key, ensure_ascii=False)}: ")
        self._levels[-1].has_key = True

    def _write_comma(self) -> None:
        level = self._levels[-1]
        if level.num_items and not level.has_key:
            self._json.append(", ")

    def _write_text(self, text: str) -> None:
        self._json.append(json.dumps(text, ensure_ascii=False)[1:-1])

    def _end_value(self) -> None:
        level = self._levels[-1]
        level.num_items += 1
        level.has_key = False


def python_value(text: str) -> str | None:
    """Return the JSON of a Python list, dict or constant; None if the text is none."""
    if text in _WORDS:
        return _WORDS[text]
    if text[:1] not in ("[", "{", "(") or not text.endswith(("]", "}", ")")):
        return None
    reader = LiteralReader(PYTHON)
    arguments, rest = reader.read(f"value={text})")
    try:
        return json.dumps(json.loads(arguments)["value"], ensure_ascii=False) if reader.is_over and not rest else None
    except (ValueError, RecursionError):
        return None


def _constant(word: str) -> str:
    """Return the JSON of a word: a constant, a number, or else a string."""
    if word in _WORDS:
        return _WORDS[word]
    if _NUMBER.fullmatch(word):
        return word
    for convert in (int, float):
        try:
            number = convert(word)
        except ValueError:
            continue
        if math.isfinite(number):
            return json.dumps(number)
    return json.dumps(word, ensure_ascii=False)
