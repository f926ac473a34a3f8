"""Strict parser of request bodies.

orjson refuses text that is not JSON: NaN, 1e999, lone surrogates, a second document. A byte order mark is skipped
(RFC 8259, section 8.1). Of duplicate keys the last one wins, as in most parsers.

A parser holds the interpreter lock, so that every other request waits for it. The numbers of objects, strings and
elements are therefore bounded, and counted before the body is parsed.
"""

from __future__ import annotations

import codecs
import gc
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import orjson

from infrs.errors import RequestError
from infrs.native.json_counts import count_parts

MAX_DEPTH = 64
MAX_CONTAINERS = 1 << 15  # arrays and objects
MAX_STRINGS = 1 << 17  # names of fields included
MAX_COMMAS = (1 << 19) + (1 << 17)  # as many as the longest list of token ids, and other fields
BYTES_PER_BYTE = 64  # most bytes of objects per byte of a body: `[],` becomes a list of 72 bytes


def parse_object(body: bytes) -> dict[str, Any]:
    """Parse a body.

    Raises RequestError with code invalid_json, invalid_unicode, json_too_deep, json_too_large or invalid_type,
    MemoryError.
    """
    num_containers = check_counts(body)
    _check_room(len(body) * BYTES_PER_BYTE)
    value = _parse(body.removeprefix(codecs.BOM_UTF8))
    if num_containers > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise _too_deep()
    return value


def check_counts(body: bytes, what: str = "the body") -> int:
    """Return the number of arrays and objects of JSON. Raise RequestError if it has too many, or strings or commas.

    The text of strings is left out. The counts are exact for valid JSON. what: names it in the message.
    """
    num_strings, num_containers, num_commas = count_parts(body)
    for num, most, kind in (
        (num_strings, MAX_STRINGS, "strings"),
        (num_containers, MAX_CONTAINERS, "arrays and objects"),
        (num_commas, MAX_COMMAS, "commas"),
    ):
        if num > most:
            excess = f"{num:,} {kind} are more than the limit of {most:,}"
            raise RequestError(f"{what}: {excess}; split it into several requests", code="json_too_large")
    return num_containers


def _parse(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        reason = error.msg
        if "surrogate" in reason and "UTF-8" not in reason:
            raise RequestError("the body holds a lone surrogate; send valid Unicode", code="invalid_unicode") from None
        if "depth limit" in reason:
            raise _too_deep() from None
        if "not valid UTF-8" in reason:
            raise RequestError(
                f"the body is not UTF-8: byte {_first_alien(body)} (from 0) begins no character", code="invalid_json"
            ) from None
        raise RequestError(
            f"the body is not valid JSON: {reason} (line {error.lineno}, column {error.colno})", code="invalid_json"
        ) from None
    if not isinstance(value, dict):
        raise RequestError("the body must be a JSON object", code="invalid_type")
    return value


@contextmanager
def collection_paused() -> Iterator[None]:
    """Pause the garbage collector, which would walk the growing objects of a body again and again.

    It holds the interpreter lock meanwhile. Bodies and their models make no cycles. 31,000 parts of messages take 40 ms
    to validate, and 130 ms with the collector running.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _first_alien(body: bytes) -> int:
    """Return the index of the first byte that is not UTF-8."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return error.start
    return len(body)


def _check_room(num_bytes: int) -> None:
    """Raise MemoryError unless that much memory is free: orjson crashes when an allocation fails."""
    try:
        mmap.mmap(-1, max(num_bytes, 1)).close()
    except OSError as error:
        raise MemoryError(error.strerror) from error


def _too_deep() -> RequestError:
    return RequestError(f"the body is nested deeper than {MAX_DEPTH} levels", code="json_too_deep")


def _depth(value: dict[str, Any]) -> int:
    """Return the levels of nesting, at most MAX_DEPTH + 1. A level may hold a million values."""
    level: list[Any] = [value]
    depth = 0
    while level and depth <= MAX_DEPTH:
        depth += 1
        filled = [*filter(None, level)]
        lists = [parent for parent in filled if type(parent) is list]
        objects = [parent for parent in filled if type(parent) is dict]
        children = chain(chain.from_iterable(lists), chain.from_iterable(map(dict.values, objects)))
        level = [child for child in children if type(child) is list or type(child) is dict]
    return depth
