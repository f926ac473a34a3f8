"""Read the fields of a protobuf message, without its schema.

The format: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import mmap
from collections import defaultdict
from collections.abc import Iterator, Sequence

Fields = defaultdict[int, list[slice]]

MAX_FIELDS = 4_000_000  # read in a few seconds; a graph with 100,000 nodes has a million

_FIXED_SIZES = {1: 8, 5: 4}  # bytes by wire type
_LENGTH_DELIMITED = 2


class Content:
    """The bytes of a file, of which a limited number of fields can be read."""

    def __init__(self, data: bytes | mmap.mmap) -> None:
        self.data = data
        self.num_fields = 0  # that have been read

    def text(self, value: slice) -> str:
        """Return a value as text."""
        return self.data[value].decode()

    def last_text(self, values: Sequence[slice]) -> str:
        """Return the last value of a field, which a parser takes, or "" if there is none."""
        return self.text(values[-1]) if values else ""


def group_fields(content: Content, message: slice) -> Fields:
    """Return where the values of each length-delimited field are, by the field's number."""
    fields: Fields = defaultdict(list)
    for number, value in read_fields(content, message):
        fields[number].append(value)
    return fields


def find_fields(content: Content, message: slice, number: int) -> Iterator[slice]:
    """Yield where the values of a length-delimited field are. Raises ValueError if the message is not valid."""
    return (value for found, value in read_fields(content, message) if found == number)


def read_fields(content: Content, message: slice) -> Iterator[tuple[int, slice]]:
    """Yield the number and place of each length-delimited field.

    Raises ValueError if the message is not valid, or after MAX_FIELDS fields of the content.
    """
    at = message.start
    while at < message.stop:
        content.num_fields += 1
        if content.num_fields > MAX_FIELDS:
            raise ValueError(f"it has more than {MAX_FIELDS} protobuf fields")
        tag, at = _varint(content.data, at)
        wire_type = tag & 7
        if wire_type == _LENGTH_DELIMITED:
            length, at = _varint(content.data, at)
            yield tag >> 3, slice(at, at + length)
            at += length
        elif wire_type == 0:
            at = _varint(content.data, at)[1]
        elif wire_type in _FIXED_SIZES:
            at += _FIXED_SIZES[wire_type]
        else:
            raise ValueError(f"unknown protobuf wire type {wire_type}")
        if at > message.stop:
            raise ValueError("a protobuf field is longer than its message")


def _varint(content: bytes | mmap.mmap, at: int) -> tuple[int, int]:
    """Return an integer of variable length and the place after it."""
    value = shift = 0
    while True:
        if at >= len(content) or shift > 63:
            raise ValueError("a protobuf integer does not end")
        byte = content[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def short_field(number: int, value: bytes) -> bytes:
    """Return a length-delimited field with a value of less than 128 bytes."""
    return bytes([number << 3 | _LENGTH_DELIMITED, len(value)]) + value
