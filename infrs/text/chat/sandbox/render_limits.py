"""Limits for one rendering of a chat template: its work, and the memory of what it makes.

A template from the Hub is an untrusted program. Each operation is charged before it runs, by the sizes of its operands
(`infrs.text.chat.sandbox.operations`), so no single operation is long or large. A clock ends what the estimates miss.
"""

from __future__ import annotations

import time
from collections.abc import ItemsView, Iterable, KeysView, Sequence, ValuesView
from typing import Any

from jinja2 import TemplateError
from jinja2.utils import Namespace

SECONDS = 10.0  # a normal template takes milliseconds
MAX_MADE = 64 << 20  # bytes
_MAX_WORK = 1 << 30  # units of about a nanosecond
_LOOK = 1 << 24  # units of work between two looks at the clock, which most renderings never reach
STEP = 1024  # units of work for an iteration, a call or an operator
CALL = 4 * STEP  # units of work to call a filter or a test
_NODE = 64  # units of an expression of a template
ELEMENT = 8  # bytes of an element of a list
VISIT = 64  # units and bytes of a nested value
_WIDE = 4  # bytes of a character outside ASCII, at most


class Budget:
    """The rest of the limits of one rendering."""

    __slots__ = ("_deadline", "_left", "_next_look", "_work")

    def __init__(self) -> None:
        """Begin a rendering. The clock runs from the first look at it."""
        self._deadline: float | None = None
        self._work = _MAX_WORK
        self._next_look = _MAX_WORK - _LOOK
        self._left = MAX_MADE

    def tick(self, nodes: int = 0) -> bool:
        """Charge a step that evaluates `nodes` expressions, and return True. Raises TemplateError."""
        self._work -= STEP + _NODE * nodes
        if self._work < self._next_look:
            self._look()
        return True

    def work(self, units: int) -> None:
        """Charge work. Raises TemplateError."""
        self._work -= units
        if self._work < self._next_look:
            self._look()

    def _look(self) -> None:
        """Look at the rest of the work, and at the clock. Raises TemplateError."""
        if self._work < 0:
            raise TemplateError("it takes longer than a prompt should")
        self._next_look = max(self._work - _LOOK, 0)
        now = time.thread_time()  # not the time of the day: a busy machine changes no answer
        if self._deadline is None:
            self._deadline = now + SECONDS
        elif now > self._deadline:
            raise TemplateError(f"it takes longer than {SECONDS:g} s")

    def afford(self, size: int) -> None:
        """Raise TemplateError if a value of `size` bytes exceeds the limit."""
        if size > self._left:
            raise TemplateError("it makes too large a value")

    def make(self, size: int) -> None:
        """Charge a value of `size` bytes and the work to make it. Raises TemplateError."""
        left = self._left - size
        if left < 0:
            raise TemplateError("it makes too large a value")
        self._left = left
        self._work -= size
        if self._work < self._next_look:
            self._look()

    def visit(self, *values: object) -> int:
        """Charge the work to visit values with all nested values, and return their weight. Raises TemplateError."""
        weight = 0
        for value in values:
            weight += len(value) if type(value) is str and value.isascii() else weigh(value)
        if weight > MAX_MADE:
            raise TemplateError("it uses too large a value")
        self.work(weight)
        return weight

    def collect(self, values: Iterable[object]) -> list[object]:
        """Return the values of an iterator, each charged before the next. Raises TemplateError."""
        collected = []
        for value in values:
            self.tick()
            self.make(2 * VISIT + size_of(value) if isinstance(value, list | tuple) else ELEMENT)
            collected.append(value)
        return collected


def weigh(value: object) -> int:
    """Return the approximate size of a value with all nested values, as bytes of text, counted up to MAX_MADE.

    A value that stands in several places counts in each, as in its text.
    """
    if type(value) is str:
        return size_of(value)
    size = 0
    level: list[Any] = [value]
    while level and size <= MAX_MADE:
        item = level.pop()
        kind = type(item)
        if kind is str:
            size += size_of(item)
            continue
        size += VISIT
        if kind is int:
            size += item.bit_length() // 2
            continue
        inner = _inner(item)
        size += VISIT * len(inner)
        if inner and size <= MAX_MADE:
            level += inner if isinstance(inner, list | tuple) else (*inner, *inner.values())
    return size


def _inner(value: Any) -> Any:  # noqa: ANN401  # any value
    """Return the collection of the nested values of a value, as a list, tuple or dict."""
    if isinstance(value, list | tuple | dict):
        return value
    if isinstance(value, KeysView | ValuesView | ItemsView | range):
        return [*value]
    if isinstance(value, Namespace):
        return value._Namespace__attrs
    return (str(value),) if isinstance(value, str) else ()


def size_of(value: object) -> int:
    """Return the approximate size of a value in bytes, without nested values."""
    if isinstance(value, str):
        return len(value) if value.isascii() else _WIDE * len(value)
    return ELEMENT * count_of(value)


def size_of_texts(texts: Sequence[str]) -> int:
    """Return the approximate size in bytes of texts joined."""
    return sum(map(len, texts)) * (1 if all(map(str.isascii, texts)) else _WIDE)


def count_of(value: object) -> int:
    """Return the number of elements of a collection, 0 for any other value."""
    is_collection = isinstance(value, list | tuple | dict | range | KeysView | ValuesView | ItemsView)
    return len(value) if is_collection else 0  # type: ignore[arg-type]  # each has a length
