"""Counts of the parts of a JSON text, in C++ if the library is there."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from infrs.native import find_function


class JsonCounts(NamedTuple):
    """How many parts a JSON text has. The text of strings is left out. strings: names of fields included."""

    strings: int
    containers: int  # arrays and objects
    commas: int


def count_parts(text: bytes) -> JsonCounts:
    """Count the parts of a JSON text, exactly if it is valid. The library does not hold the interpreter lock."""
    function = _in_library()
    if function is None:
        return _count_in_python(text)
    counts = (ctypes.c_int64 * 3)()
    function(text, len(text), counts)
    quotes, containers, commas = counts
    return JsonCounts(quotes // 2, containers, commas)


def _count_in_python(text: bytes) -> JsonCounts:
    bare = text.replace(rb"\\", b"").replace(rb"\"", b"")  # every other quote ends a string
    outside = b"".join(bare.split(b'"')[::2])
    return JsonCounts(bare.count(b'"') // 2, outside.count(b"[") + outside.count(b"{"), outside.count(b","))


@cache
def _in_library() -> Callable[..., None] | None:
    called = find_function("infrs_count_json")
    if called is None:
        return None
    called.argtypes, called.restype = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p], None
    function: Callable[..., None] = called
    return function
