"""Read a GGUF file: its metadata and its tensors, with every number checked against the file's size.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The reader of the package `gguf` believes counts
and lengths: 2^60 items of an array fill the memory.
"""

from __future__ import annotations

import math
import mmap
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize
from numpy.typing import NDArray

from infrs.errors import SourceError

_HEADER_BYTES = 256 << 20  # of metadata and tensor descriptions; the largest vocabularies take 30 MB
_ITEMS = 1 << 22  # of all arrays together
_MAX_DIMENSIONS = 4  # of ggml
_VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_LEAST_KEY, _LEAST_TENSOR = 8 + 4 + 1, 8 + 4 + 8 + 4 + 8  # bytes


class Tensor(NamedTuple):
    """A tensor in the file. shape: outermost dimension first, as in PyTorch. data: the bytes in the mapped file."""

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    data: memoryview

    def values(self) -> NDArray[np.float32]:
        """Return the values, dequantised. Raises SourceError for a type that gguf cannot convert."""
        block, size = GGML_QUANT_SIZES[self.kind]
        stored = np.frombuffer(self.data, np.uint8).reshape(*self.shape[:-1], self.shape[-1] // block * size)
        try:
            return dequantize(stored, self.kind)
        except NotImplementedError:
            raise SourceError(
                f"the GGUF file stores {self.name} as {self.kind.name}, which infrs does not read; "
                "choose a file of another quantisation, such as Q8_0"
            ) from None


class GGUFFile(NamedTuple):
    """The content of a file: metadata and tensors by name."""

    metadata: dict[str, Any]
    tensors: dict[str, Tensor]


def read_gguf(path: Path) -> GGUFFile:
    """Read the file `path`. Raises SourceError if it is damaged, big-endian or of an unknown version."""
    try:
        with path.open("rb") as file:
            if not path.stat().st_size:
                raise SourceError(f"{path} is empty; download it again")
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
    cursor = _Cursor(path, data)
    if bytes(cursor.take(4, "mark")) != b"GGUF":
        raise SourceError(f"{path} is not a GGUF file; download it again")
    version = cursor.number("I", "version")
    if version not in _VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        kind = "is big-endian" if swapped in _VERSIONS else f"has version {version} of GGUF"
        raise SourceError(f"{path} {kind}, which infrs does not read; convert the model again")
    num_tensors = cursor.count("tensors", _LEAST_TENSOR)
    num_keys = cursor.count("keys", _LEAST_KEY)
    metadata: dict[str, Any] = {}
    for _ in range(num_keys):
        key = cursor.text("key")
        if key in metadata:
            raise SourceError(f"{path} holds the key {key!a:.80} twice; convert the model again")
        metadata[key] = cursor.value(key)
    return GGUFFile(metadata, _tensors(cursor, num_tensors, metadata.get("general.alignment", 32)))


class _Cursor:
    """A position in the file. Each method reads what is there and moves on; it raises SourceError at the end."""

    def __init__(self, path: Path, data: memoryview) -> None:
        self.path = path
        self.data = data
        self.position = 0
        self._items = 0
        self._end = min(len(data), _HEADER_BYTES)

    def take(self, size: int, what: str) -> memoryview:
        if size > self._end - self.position:
            raise SourceError(f"{self.path} ends within {what:.80}, so it is damaged; download it again")
        self.position += size
        return self.data[self.position - size : self.position]

    def number(self, code: str, what: str) -> Any:  # noqa: ANN401  # an integer, a float or a bool
        [number] = struct.unpack(f"<{code}", self.take(struct.calcsize(code), what))
        return number

    def count(self, what: str, least: int) -> int:
        """Return the number of things, of `least` bytes or more each, that follow."""
        count: int = self.number("Q", f"the number of {what}")
        if count > (self._end - self.position) // least:
            raise SourceError(f"{self.path} gives {count} as the number of {what:.80}, which it cannot hold")
        return count

    def text(self, what: str) -> str:
        try:
            return str(self.take(self.number("Q", what), what), "utf-8")
        except UnicodeDecodeError:
            raise SourceError(
                f"{self.path} holds {what!a:.80} with bytes that are no UTF-8; convert it again"
            ) from None

    def value(self, key: str) -> Any:  # noqa: ANN401  # of a type that the file chooses
        kind = self.number("I", key)
        if kind == _STRING:
            return self.text(key)
        if kind in _FORMATS:
            return self.number(_FORMATS[kind], key)
        kind = self.number("I", key) if kind == _ARRAY else None
        if kind != _STRING and kind not in _FORMATS:
            raise SourceError(f"{self.path} holds {key!a:.80} of an unknown type; convert the model again")
        count = self.count(f"items of {key!a}", 8 if kind == _STRING else struct.calcsize(_FORMATS[kind]))
        self._items += count
        if self._items > _ITEMS:
            raise SourceError(f"{self.path} holds arrays of more than {_ITEMS} items, which no model needs")
        if kind == _STRING:
            return [self.text(key) for _ in range(count)]
        layout = f"<{count}{_FORMATS[kind]}"
        return list(struct.unpack(layout, self.take(struct.calcsize(layout), key)))


def _tensors(cursor: _Cursor, count: int, alignment: object) -> dict[str, Tensor]:
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise SourceError(f"{cursor.path} gives general.alignment as {alignment!r:.40}, which is not a power of two")
    described: dict[str, tuple[tuple[int, ...], GGMLQuantizationType, int, int]] = {}
    for _ in range(count):
        name = cursor.text("the name of a tensor")
        if name in described:
            raise SourceError(f"{cursor.path} holds the tensor {name!a:.80} twice; convert the model again")
        described[name] = _description(cursor, name)
    start = -(-cursor.position // alignment) * alignment
    end = 0
    tensors = {}
    for name, (shape, kind, offset, size) in sorted(described.items(), key=lambda item: item[1][2]):
        if offset < end:
            raise SourceError(f"{cursor.path} places the tensor {name!a:.80} over another one; convert the model again")
        end = offset + size
        if start + end > len(cursor.data):
            raise SourceError(f"{cursor.path} ends before the values of {name!a:.80}; download it again")
        tensors[name] = Tensor(name, shape, kind, cursor.data[start + offset : start + end])
    return tensors


def _description(cursor: _Cursor, name: str) -> tuple[tuple[int, ...], GGMLQuantizationType, int, int]:
    """Return the shape, the type, the offset and the size in bytes."""
    rank = cursor.number("I", name)
    if not 1 <= rank <= _MAX_DIMENSIONS:
        raise SourceError(f"{cursor.path} gives the tensor {name!a:.80} {rank} dimensions; convert the model again")
    shape = tuple(cursor.number("Q", name) for _ in range(rank))[::-1]
    number = cursor.number("I", name)
    try:
        kind = GGMLQuantizationType(number)
    except ValueError:
        raise SourceError(
            f"{cursor.path} stores {name!a:.80} as type {number}, which infrs does not know; try a newer infrs"
        ) from None
    block, size = GGML_QUANT_SIZES[kind]
    if 0 in shape or shape[-1] % block:
        raise SourceError(
            f"{cursor.path} gives the tensor {name!a:.80} the shape {list(shape)}, which {kind.name} cannot have"
        )
    return shape, kind, cursor.number("Q", name), math.prod(shape) // block * size
