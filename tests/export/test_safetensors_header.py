"""A damaged header of safetensors is refused by the file's name, before memory is taken for what it claims."""

from __future__ import annotations

import json
import random
import struct
import tracemalloc
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from infrs_export.sources.checkpoint import read_header
from safetensors.numpy import save_file

from infrs.errors import SourceError

NAMES = ("a.weight", "b.weight", "c.bias")
VALUES = 64  # of each tensor, in 4 bytes
BYTES = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "I64": 8, "I32": 4, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1}
Header = dict[str, Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_file({name: np.ones((8, 8), np.float32) for name in NAMES}, path, {"format": "pt"})
    return path


def split(path: Path) -> tuple[bytes, bytes]:
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    return data[8 : 8 + size], data[8 + size :]


def write(path: Path, header: bytes, values: bytes, size: int | None = None) -> None:
    path.write_bytes(struct.pack("<Q", len(header) if size is None else size) + header + values)


def field(name: str, value: object) -> Callable[[Header], object]:
    return lambda header: header["b.weight"].update({name: value})


DAMAGED: dict[str, Callable[[Header], object]] = {
    "a vast shape": field("shape", [1 << 60]),
    "a shape beyond 64 bits": field("shape", [1 << 70]),
    "a product beyond 64 bits": field("shape", [1 << 33, 1 << 33]),
    "a negative shape": field("shape", [-8, -8]),
    "a shape of text": field("shape", ["8", "8"]),
    "a fraction": field("shape", [8.5, 8]),
    "no shape": lambda header: header["b.weight"].pop("shape"),
    "another shape": field("shape", [8, 9]),
    "an unknown type": field("dtype", "F128"),
    "a type of a number": field("dtype", 32),
    "another type": field("dtype", "F16"),
    "vast offsets": field("data_offsets", [1 << 60, (1 << 60) + 256]),
    "offsets beyond the file": field("data_offsets", [256, 1 << 20]),
    "reversed offsets": field("data_offsets", [512, 256]),
    "offsets over another tensor": field("data_offsets", [0, 256]),
    "one offset": field("data_offsets", [256]),
    "negative offsets": field("data_offsets", [-256, 0]),
    "a list for a tensor": lambda header: header.update({"b.weight": []}),
    "null for a tensor": lambda header: header.update({"b.weight": None}),
    "a hole": lambda header: header.pop("b.weight"),
    "metadata of numbers": lambda header: header.update(__metadata__={"format": 1}),
    "metadata of text": lambda header: header.update(__metadata__="pt"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_field_is_refused(name: str, path: Path) -> None:
    header, values = split(path)
    content = json.loads(header)
    DAMAGED[name](content)
    write(path, json.dumps(content).encode(), values)
    with pytest.raises(SourceError, match=r"/model\.safetensors is damaged \(.+\); download it again$"):
        read_header(path)


@pytest.mark.parametrize(
    ("header", "size"),
    [
        (b"", None),
        (b"{", None),
        (b"[]", None),
        (b"7", None),
        (b"\xff\xfe{}", None),
        (b'{"a\xff": {}}', None),
        (b'{"a": ' * 5000, None),
        (b"{}", 1),
        (b"{}", 1 << 20),
        (b"{}", 1 << 60),
        (b"{}", (1 << 64) - 1),
    ],
)
def test_header_that_is_no_json_is_refused(header: bytes, size: int | None, path: Path) -> None:
    write(path, header, b"", size)
    with pytest.raises(SourceError, match=r"/model\.safetensors (is damaged|has a header of)"):
        read_header(path)


@pytest.mark.parametrize("again", ["b.weight", "__metadata__", "shape"])
def test_repeated_name_is_refused(again: str, path: Path) -> None:
    """Readers differ on which of the two counts."""
    header, values = split(path)
    text = header.decode().rstrip()
    if again == "shape":
        text = text.replace('"shape"', '"shape":[8,8],"shape"', 1)
    else:
        text = f"{text[:-1]},{json.dumps(again)}:{json.dumps(json.loads(text)[again])}}}"
    write(path, text.encode(), values)
    with pytest.raises(SourceError, match=r"model\.safetensors is damaged"):
        read_header(path)


def test_long_header_is_refused_before_it_is_read(path: Path) -> None:
    with pytest.raises(SourceError, match=r"model\.safetensors has a header of \d+ bytes, which no model needs"):
        read_header(path, most_bytes=100)


def mutate(rng: random.Random, header: bytes, values: bytes) -> tuple[bytes, bytes, int | None]:
    """Change a few bytes, numbers or fields, or the length."""
    match rng.randrange(4):
        case 0:
            data = bytearray(header)
            for _ in range(rng.randint(1, 4)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            return bytes(data), values, None
        case 1:
            return header, values[: rng.randrange(len(values))], None
        case 2:
            return header, values, rng.choice([0, 1, len(header) - 1, len(header) + 8, 1 << 31, 1 << 60])
    content = json.loads(header)
    numbers = [-1, 0, 1, 7, 64, 256, 1 << 31, 1 << 32, 1 << 60, 1 << 63, 1 << 64, 1.5, "8", None, []]
    for _ in range(rng.randint(1, 3)):
        tensor = content[rng.choice(NAMES)]
        key = rng.choice(list(tensor))
        if key == "dtype":
            tensor[key] = rng.choice([*BYTES, "F4", "", 7, None])
        else:
            tensor[key][rng.randrange(len(tensor[key]))] = rng.choice(numbers)
    return json.dumps(content).encode(), values, None


def test_mutated_headers_are_refused_or_describe_what_the_file_holds(path: Path) -> None:
    rng, refused = random.Random(7), 0
    whole = split(path)
    tracemalloc.start()
    for _ in range(400):
        header, values, size = mutate(rng, *whole)
        write(path, header, values, size)
        try:
            tensors = read_header(path)
        except SourceError:
            refused += 1
        else:
            assert sum(prod(one.shape) * BYTES[one.dtype] for one in tensors.values()) <= len(values)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20
    assert 200 < refused < 400
