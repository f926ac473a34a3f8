"""What one rendering of a chat template may cost: time, and the text and lists that it makes on the way.

A template comes with a model from the Hub, so it is a stranger's program. Loops and calls are bounded by a clock;
what grows by more than its parts (padding, replacing, joining, repeating) is estimated before it is done, and what is
made is charged for.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping, Sequence

from jinja2 import TemplateError
from jinja2.utils import Namespace

SECONDS = 10.0  # an honest template takes milliseconds
_MAX_MADE = 64 << 20  # characters
_ELEMENT = 8  # characters that an element of a list counts as
_VISIT = 32  # the same where it is looked into, which takes its time
_MAX_INTEGER_BITS = 4096

# What takes a width, an indent or a count, as filters and as methods: the result is at most so many times its parts.
_WIDENING = frozenset(
    {"center", "ljust", "rjust", "zfill", "expandtabs", "indent", "wordwrap", "batch", "slice", "tojson", "to_bytes"}
)
_DEFAULT_WIDTH = 8
_PRINTING = frozenset(
    {"string", "pprint", "xmlattr", "urlencode", "urlize", "e", "escape", "forceescape", "lower", "upper"}
    | {"title", "capitalize", "trim", "striptags", "wordcount", "safe"}
)
_WIDE_FORMAT = re.compile(r"\d{5}|\{[^{}]*\{|%[^a-zA-Z%]*\*")  # a width of five digits, or one that an argument gives


class Budget(threading.local):
    """What is left for the rendering that runs in this thread."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Give a new rendering all of it."""
        self._deadline = time.monotonic() + SECONDS
        self._left = _MAX_MADE

    def tick(self) -> bool:
        """Count a turn of a loop or a call; True. Raises TemplateError when the time is up."""
        if time.monotonic() > self._deadline:
            raise TemplateError(f"it takes longer than {SECONDS:g} s")
        return True

    def afford(self, size: int) -> None:
        """Raise TemplateError if a value of that size is too large to make."""
        if size > self._left:
            raise TemplateError("it makes too large a value")

    def spend(self, size: int) -> None:
        """Charge for a value that has been made."""
        self.afford(size)
        self._left -= size

    def spend_all(self, value: object) -> None:
        """Charge for a value with all that is in it: lists in lists are written down in little space."""
        self.spend(weigh(value, self._left))


def weigh(value: object, limit: int) -> int:
    """The length of a value as text, about, counted only until it exceeds `limit`."""
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
    """The size of a value without what is in its elements."""
    if isinstance(value, str | bytes):
        return len(value)
    return _ELEMENT * len(value) if isinstance(value, list | tuple | dict) else 0


def estimate(name: str, values: Sequence[object], limit: int = _MAX_MADE) -> int:
    """The most that a filter or method of that name could make of its arguments, the first being what it works on.

    Zero for what makes no more than it is given. Raises TemplateError for formats whose width is not to be seen.
    """
    if name == "format":
        if any(isinstance(value, str) and _WIDE_FORMAT.search(value) for value in values[:1]):
            raise TemplateError("its format is too wide")
        return 0
    if name in _WIDENING:
        widths = [abs(value) for value in values if isinstance(value, int)]
        return (weigh(list(values), limit) + 1) * max([_DEFAULT_WIDTH, *widths])
    if name in ("replace", "translate", "join"):
        sizes = [weigh(value, limit) for value in values]
        times = sizes if name == "translate" else [length(value) + 1 for value in values]
        return (length(values[0]) + 1) * max(times[1:], default=1) + sum(sizes)
    return weigh(values[0], limit) if name in _PRINTING else 0


def check_product(left: object, right: object) -> int:
    """The size of `left * right`. Raises TemplateError for numbers of very many digits."""
    if isinstance(left, int) and isinstance(right, int):
        if left.bit_length() + right.bit_length() > _MAX_INTEGER_BITS:
            raise TemplateError("it makes too large a number")
        return 0
    for value, times in ((left, right), (right, left)):
        if isinstance(value, str | list | tuple) and isinstance(times, int):
            return length(value) * times
    return 0
