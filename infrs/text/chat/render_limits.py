"""Limits for one rendering of a chat template: its time, and the text and lists that it makes.

A template from the Hub is an untrusted program. A clock limits loops and calls. Operations with results larger than
their inputs (padding, replacing, joining, repeating) are estimated before they run. All results are charged.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping, Sequence

from jinja2 import TemplateError
from jinja2.utils import Namespace

SECONDS = 10.0  # a normal template takes milliseconds
_MAX_MADE = 64 << 20  # characters
_ELEMENT = 8  # characters charged for an element of a list
_VISIT = 32  # the same for an element that is visited, which takes time
_MAX_INTEGER_BITS = 4096

# Filters and methods with a width, an indent or a count: the result is at most that many times the inputs.
_WIDENING = frozenset(
    {"center", "ljust", "rjust", "zfill", "expandtabs", "indent", "wordwrap", "batch", "slice", "tojson", "to_bytes"}
)
_DEFAULT_WIDTH = 8
_PRINTING = frozenset(
    {"string", "pprint", "xmlattr", "urlencode", "urlize", "e", "escape", "forceescape", "lower", "upper"}
    | {"title", "capitalize", "trim", "striptags", "wordcount", "safe"}
)
_WIDE_FORMAT = re.compile(r"\d{5}|\{[^{}]*\{|%[^a-zA-Z%]*\*")  # a width of five digits, or one from an argument

_WIDE_PERCENT = re.compile(r"\d{5}|%[^a-zA-Z%]*\*")
_MAX_WIDTH = 10_000  # of one value, by these patterns


class Budget(threading.local):
    """The rest of the limits for the rendering in this thread."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Reset the limits for a new rendering."""
        self._deadline = time.monotonic() + SECONDS
        self._left = _MAX_MADE

    def tick(self) -> bool:
        """Return True; called in each loop iteration and call. Raises TemplateError after the time limit."""
        if time.monotonic() > self._deadline:
            raise TemplateError(f"it takes longer than {SECONDS:g} s")
        return True

    def afford(self, size: int) -> None:
        """Raise TemplateError if a value of `size` characters exceeds the limit."""
        if size > self._left:
            raise TemplateError("it makes too large a value")

    def spend(self, size: int) -> None:
        """Charge `size` characters. Raises TemplateError."""
        self.afford(size)
        self._left -= size

    def spend_all(self, value: object) -> None:
        """Charge a value with all nested values, which a short expression can contain."""
        self.spend(weigh(value, self._left))


def weigh(value: object, limit: int) -> int:
    """Return the approximate length of a value as text, counted until it exceeds `limit`."""
    size, level = 0, [value]
    while level and size <= limit:
        item = level.pop()
        if isinstance(item, str | bytes):
            size += len(item)
        elif isinstance(item, Mapping):
            size += _VISIT * (1 + 2 * len(item))
            level += (*item.keys(), *item.values())
        elif isinstance(item, list | tuple):
            size += _VISIT * (1 + len(item))
            level += item
        elif isinstance(item, Namespace):
            level.append(item._Namespace__attrs)
    return size + _ELEMENT


def length(value: object) -> int:
    """Return the size of a value without nested values."""
    if isinstance(value, str | bytes):
        return len(value)
    return _ELEMENT * len(value) if isinstance(value, list | tuple | dict) else 0


def estimate(name: str, values: Sequence[object], limit: int = _MAX_MADE) -> int:
    """Return an upper bound for the result of a filter or method. The first value is its operand.

    0 if the result is no larger than the inputs. Raises TemplateError for formats with an unknown width.
    """
    if name == "format":
        if any(isinstance(value, str) and _WIDE_FORMAT.search(value) for value in values[:1]):
            raise TemplateError("its format is too wide")
        return 0
    if name in _WIDENING:
        widths = [abs(value) for value in values[1:] if isinstance(value, int)]
        return (weigh(list(values), limit) + 1) * max([_DEFAULT_WIDTH, *widths])
    if name in ("replace", "translate", "join"):
        sizes = [weigh(value, limit) for value in values]
        times = sizes if name == "translate" else [length(value) + 1 for value in values]
        return (length(values[0]) + 1) * max(times[1:], default=1) + sum(sizes)
    return weigh(values[0], limit) if name in _PRINTING else 0


def check_percent(pattern: str, values: object) -> int:
    """Return an upper bound for the length of `pattern % values`. Raises TemplateError for a width above 9999."""
    if _WIDE_PERCENT.search(pattern):
        raise TemplateError("its format is too wide")
    return len(pattern) + _MAX_WIDTH * pattern.count("%") + weigh(values, _MAX_MADE) * max(1, pattern.count("%"))


def check_product(left: object, right: object) -> int:
    """Return the size of `left * right`. Raises TemplateError for numbers above 4096 bits."""
    if isinstance(left, int) and isinstance(right, int):
        if left.bit_length() + right.bit_length() > _MAX_INTEGER_BITS:
            raise TemplateError("it makes too large a number")
        return 0
    for value, times in ((left, right), (right, left)):
        if isinstance(value, str | list | tuple) and isinstance(times, int):
            return length(value) * times
    return 0
