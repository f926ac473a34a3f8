r"""Refuse the regular expressions of a `tokenizer.json` that take very long on some texts, and would stop a server.

`tokenizers` runs them by backtracking (Oniguruma), which ends a match after ten million steps, but not a series of such
matches. There are two checks. Each is for what the other does not see:

- The form. A repetition of something that can itself match in several ways, as in `(a+)+$`, can take exponential time
  if the match can fail behind it. If it ends an alternative of the pattern, it cannot: the first way matches.
- The time on texts made of the pattern's own letters. It finds repetitions in a row, as in `a*a*a*b`, where the time
  grows with a high power of the text. The square is allowed: real tokenizers have `\s+$` and the like.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from typing import cast

from tokenizers import Regex
from tokenizers.normalizers import Replace

_LENGTHS = (64, 256, 1024)  # characters of a text; each bounds the time that the next can take
_SECONDS = 0.015  # of the CPU for a text; real patterns take at most a tenth
_SECONDS_PER_SQUARE = 5e-8  # more, for each pair of characters; real patterns take at most a fifth
_LETTERS = "aA1 \n\r\t!'é中"
_MAX_LETTERS = 24  # of a pattern
_MAX_DEPTH = 50  # groups in one another; real patterns have three
_FEW = 4
_MANY = 1 << 30

_TOKEN = re.compile(
    r"""(?P<escape>\\(?:[pPxuo]\{[^}]*\}|.)) | (?P<open>\((?:\?(?:<?[=!]|[>:~(\#]|<\w+>|'\w+'|[a-zA-Z-]*[:)]))?)
    | (?P<close>\)) | (?P<bar>\|) | (?P<class>\[) | (?P<anchor>[\^$])
    | (?P<repeat>[*+?]|\{(?=\d|,\d)(?P<low>\d*)(?P<comma>,?)(?P<high>\d*)\}) | (?P<letter>.)""",
    re.DOTALL | re.VERBOSE,
)
_ASSERTIONS = frozenset("bBAzZGyYK")


@dataclass(slots=True)
class _Part:
    """A part of a pattern, `low` to `high` times. choices: of a group; empty for one character or a position.

    is_position: it matches no character, but can fail. is_final: once it has matched, it is not tried otherwise.
    """

    choices: Sequence[Sequence[_Part]] = ()
    low: int = 1
    high: int = 1
    is_position: bool = False
    is_final: bool = False

    @property
    def can_be_empty(self) -> bool:
        """Return whether it can always match nothing."""
        if self.low == 0:
            return True
        return not self.is_position and any(all(part.can_be_empty for part in choice) for choice in self.choices)

    @property
    def varies(self) -> bool:
        """Return whether it can match the same text in several ways, as far as its form shows."""
        if self.is_final:
            return False
        return self.low != self.high or self.varies_inside

    @property
    def varies_inside(self) -> bool:
        """Return whether one repetition of it can."""
        return len(self.choices) > 1 or any(part.varies for choice in self.choices for part in choice)

    @property
    def has_few_ways(self) -> bool:
        """Return whether it repeats choices a few times, and nothing in them repeats, as Chameleon's `(A|B){1,4}`."""
        return self.high <= _FEW and all(part.is_plain for choice in self.choices for part in choice)

    @property
    def is_plain(self) -> bool:
        """Return whether nothing in it repeats."""
        return self.high == 1 and all(part.is_plain for choice in self.choices for part in choice)


def check_pattern(pattern: str) -> None:
    """Raise ValueError if a regular expression can take long, or has a form that this module does not know."""
    reason = _reason(pattern)
    if reason:
        shown = pattern if len(pattern) <= 200 else f"{pattern[:200]}..."
        raise ValueError(f"its regular expression {shown!r} {reason}, so a short text could stop the server")


@lru_cache(maxsize=256)
def _reason(pattern: str) -> str:
    """Return what is wrong with a pattern; empty if nothing is."""
    try:
        choices, end = _parse(pattern, 0)
    except _UnknownFormError as error:
        return f"has {error}"
    if end < len(pattern):
        return "has a parenthesis too many"
    if any(_explodes(choice, may_fail=False) for choice in choices):
        return "repeats something that can match in several ways"
    return _slow(pattern)


class _UnknownFormError(ValueError):
    """A form that no tokenizer needs, and that this module does not follow."""


def _parse(pattern: str, position: int, depth: int = 0) -> tuple[list[list[_Part]], int]:
    """Parse the choices of a group. Return them and where the group ends."""
    if depth > _MAX_DEPTH:
        raise _UnknownFormError(f"more than {_MAX_DEPTH} groups in one another")
    choices: list[list[_Part]] = [[]]
    while position < len(pattern):
        found = cast(re.Match[str], _TOKEN.match(pattern, position))  # any letter is a token
        position, text = found.end(), found[0]
        match found.lastgroup if found["repeat"] is None else "repeat":
            case "close":
                return choices, found.start()
            case "bar":
                choices.append([])
            case "open" if text == "(?#":
                position = pattern.find(")", position) + 1 or len(pattern)
            case "open":
                part, position = _parse_group(pattern, text, position, depth)
                choices[-1].append(part)
            case "class":
                position = _end_of_class(pattern, position)
                choices[-1].append(_Part())
            case "anchor":
                choices[-1].append(_Part(is_position=True))
            case "escape":
                if text[1] in "gkRX" or text[1] in "123456789":
                    raise _UnknownFormError(f"the form {text}")
                choices[-1].append(_Part(is_position=text[1] in _ASSERTIONS))
            case "repeat" if choices[-1]:
                position = _repeat(choices[-1], found, pattern, position)
            case _:
                choices[-1].append(_Part())
    return choices, position


def _parse_group(pattern: str, text: str, position: int, depth: int) -> tuple[_Part, int]:
    flags = text[2:-1] if text[-1] in ":)" and text.startswith("(?") else ""
    if text[2:] in ("~", "(") or "x" in flags:
        raise _UnknownFormError(f"the form {text}")
    if text[-1] == ")":  # flags for the rest of the group
        return _Part(low=0, high=0), position
    choices, end = _parse(pattern, position, depth + 1)
    looks = text in ("(?=", "(?!", "(?<=", "(?<!")
    return _Part(choices, is_position=looks, is_final=looks or text == "(?>"), end + 1


def _end_of_class(pattern: str, position: int) -> int:
    """Return the position behind a class that began before `position`."""
    depth, start = 1, position
    while position < len(pattern) and depth:
        letter = pattern[position]
        is_first = pattern[start:position] in ("", "^")
        if letter == "[":
            depth += 1
        elif letter == "]" and not is_first:
            depth -= 1
        position += 2 if letter == "\\" else 1
    return position


def _repeat(parts: list[_Part], found: re.Match[str], pattern: str, position: int) -> int:
    """Apply a quantifier to the last part. Return the position behind its mark as lazy or possessive."""
    sign = found["repeat"]
    low, high = {"*": (0, _MANY), "+": (1, _MANY), "?": (0, 1)}.get(sign, (0, 0))
    if sign.startswith("{"):
        low = int(found["low"] or 0)
        high = int(found["high"] or _MANY) if found["comma"] else low
    is_final = not sign.startswith("{") and pattern.startswith("+", position)
    if is_final or pattern.startswith("?", position):
        position += 1
    last = parts[-1]
    if (last.low, last.high) != (1, 1) or is_final:
        last = _Part([[last]])
    parts[-1] = _Part(last.choices, low, high, last.is_position, last.is_final)
    if is_final:
        parts[-1] = _Part([[parts[-1]]], is_final=True)
    return position


def _explodes(parts: Sequence[_Part], *, may_fail: bool) -> bool:
    """Return whether the ways to match some parts multiply. may_fail: whether a match can fail behind them."""
    for part in reversed(parts):
        fails = may_fail or part.low > 1  # the next repetition can
        if fails and part.high > 1 and part.varies_inside and not (part.is_final or part.has_few_ways):
            return True
        if any(_explodes(choice, may_fail=fails and not part.is_final) for choice in part.choices):
            return True
        may_fail = may_fail or not part.can_be_empty
    return False


def _slow(pattern: str) -> str:
    """Return what is wrong with the time of a pattern; empty if nothing is."""
    step = Replace(Regex(pattern), "")
    for length in _LENGTHS:
        limit = _SECONDS + _SECONDS_PER_SQUARE * length**2
        for text in _texts(pattern, length):
            if _seconds(step, text) > limit and _seconds(step, text) > limit:
                return f"takes more than {limit * 1e3:.0f} ms for {length} characters"
    return ""


def _seconds(step: Replace, text: str) -> float:
    """Return the time of the CPU that a step takes; infinite if the library gives up."""
    began = time.thread_time()
    try:
        step.normalize_str(text)
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        return float("inf")
    return time.thread_time() - began


def _texts(pattern: str, length: int) -> Iterator[str]:
    """Yield texts that repeat a letter or a word of a pattern. Most end with what it may not expect there."""
    literal = re.sub(r"\\[pP]\{[^}]*\}|\\.|\{\d*,?\d*\}|[\[\](){}|^$*+?]", "\0", pattern)
    own = list(dict.fromkeys(literal.replace("\0", "")))[:_MAX_LETTERS]
    letters = "".join(dict.fromkeys([*_LETTERS, *own]))
    words = list(dict.fromkeys(word for word in literal.split("\0") if len(word) > 1))[:_MAX_LETTERS]
    for first, second in permutations(own[:3], 2):
        words += [first + second, first + first + second]
    for pump in [*letters, *words]:
        text = (pump * length)[:length]
        for end in ("", "\x01" + letters, "a" + letters, "".join(own[-1:]) + "\x01"):
            yield text + end
