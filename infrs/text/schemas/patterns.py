"""Patterns without look-ahead for those of pydantic and zod, because the grammar compiler has none.

Each new pattern matches only what the old one matches, and nearly all of it.
"""

from __future__ import annotations

import re

# pydantic's Decimal: digits before and after the point, of which it allows none or any number.
_DECIMAL = re.escape(r"^(?!^[-+.]*$)[+-]?0*")
_ANY_DECIMAL = re.compile(_DECIMAL + r"\\d\*\\\.\?\\d(\*|\{0,\d+\}0\*)\$")
_SIZED_DECIMAL = re.compile(
    _DECIMAL + r"\(\?:\\d\{0,(\d+)\}\|\(\?=\[\\d\.\]\{1,(\d+)\}0\*\$\)\\d(\*|\{0,\d+\})\\\.\\d(\*|\{0,\d+\})0\*\$\)"
)

_SECONDS = r"\d+(?:[.,]\d+)?S"
_TIME = rf"T(?:\d+H(?:\d+M)?(?:{_SECONDS})?|\d+M(?:{_SECONDS})?|{_SECONDS})"
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_KNOWN = {
    # zod's e-mail address before version 4.2, and its duration and host name. A host name has at most 253 characters.
    r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$": (
        r"^(?:[A-Za-z0-9_'+\-]+\.)*[A-Za-z0-9_'+\-]*[A-Za-z0-9_+-]@(?:[A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$"
    ),
    r"^P(?:(\d+W)|(?!.*W)(?=\d|T\d)(\d+Y)?(\d+M)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+([.,]\d+)?S)?)?)$": (
        rf"^P(?:\d+W|(?:\d+Y(?:\d+M)?(?:\d+D)?|\d+M(?:\d+D)?|\d+D)(?:{_TIME})?|{_TIME})$"
    ),
    r"^(?=.{1,253}\.?$)[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
    r"(?:\.[a-zA-Z0-9](?:[-0-9a-zA-Z]{0,61}[0-9a-zA-Z])?)*\.?$": rf"^{_LABEL}(?:\.{_LABEL}){{0,2}}\.?$",
}


def without_look_ahead(pattern: str) -> str:
    """Return a pattern for the compiler: the same, if it is not one of these."""
    if found := _ANY_DECIMAL.fullmatch(pattern):
        places = r"\d*" if found[1] == "*" else rf"\d{found[1].removesuffix('0*')}"
        return rf"^[+-]?\d+(?:\.{places})?$"
    if found := _SIZED_DECIMAL.fullmatch(pattern):
        digits, longest = int(found[1]), int(found[2]) - 1
        if found[4] == "*":  # without a number of decimal places
            return rf"^[+-]?\d{{1,{digits}}}$"
        most = int(found[4][3:-1])
        before = rf"\d{{1,{digits}}}" if digits else "0"
        return rf"^[+-]?{before}(?:\.\d{{0,{min(most, longest - digits)}}})?$"
    return _KNOWN.get(pattern, pattern)
