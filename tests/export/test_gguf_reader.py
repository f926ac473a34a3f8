"""A damaged GGUF file is refused in one sentence, without memory for what it only claims to hold."""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf_models import make, write_gguf
from infrs_export.sources.gguf.reader import read_gguf
from infrs_export.sources.gguf.vocabulary import checked_vocabulary
from infrs_export.sources.resolve import resolve
from infrs_export.sources.torch_model import load_model

from infrs.errors import SourceError

HEADER = struct.pack("<4sIQQ", b"GGUF", 3, 1, 1)
STRING, ARRAY, UINT8, UINT32 = 8, 9, 0, 4
HUGE = 1 << 60
HEADER_BYTES = 8_000  # of the file that is damaged at random, about


def text(content: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(content) if length is None else length) + content


def key(kind: int, value: bytes) -> bytes:
    return text(b"a.key") + struct.pack("<I", kind) + value


def tensor(*dims: int, kind: int = 0, offset: int = 0, rank: int | None = None) -> bytes:
    rank = len(dims) if rank is None else rank
    return text(b"a.weight") + struct.pack(f"<I{len(dims)}QIQ", rank, *dims, kind, offset)


def array(kind: int, count: int, items: bytes = b"") -> bytes:
    return key(ARRAY, struct.pack("<IQ", kind, count) + items)


ONE_KEY = key(UINT32, struct.pack("<I", 7))
DAMAGED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "another format": (b"PK\3\4" + bytes(60), "is not a GGUF file"),
    "three bytes": (b"GGU", "ends within mark"),
    "big-endian": (struct.pack(">4sIQQ", b"GGUF", 3, 1, 1), "is big-endian"),
    "the first version": (struct.pack("<4sIQQ", b"GGUF", 1, 1, 1), "has version 1"),
    "a version of tomorrow": (struct.pack("<4sIQQ", b"GGUF", 1 << 31, 1, 1), "has version 2147483648"),
    "endless tensors": (struct.pack("<4sIQQ", b"GGUF", 3, HUGE, 1), f"{HUGE} as the number of tensors"),
    "endless keys": (struct.pack("<4sIQQ", b"GGUF", 3, 0, HUGE), f"{HUGE} as the number of keys"),
    "a name beyond the file": (HEADER + text(b"a", HUGE) + bytes(99), "ends within key"),
    "a text beyond the file": (HEADER + key(STRING, text(b"a", HUGE)) + bytes(99), "ends within a.key"),
    "endless bytes": (HEADER + array(UINT8, HUGE) + bytes(99), f"{HUGE} as the number of items"),
    "endless texts": (HEADER + array(STRING, HUGE) + bytes(99), f"{HUGE} as the number of items"),
    "an array of arrays": (HEADER + array(ARRAY, 1) + bytes(99), "of an unknown type"),
    "an unknown type": (HEADER + key(77, bytes(99)), "of an unknown type"),
    "a text in no encoding": (HEADER + key(STRING, text(b"\xff")) + bytes(99), "no UTF-8"),
    "a key twice": (struct.pack("<4sIQQ", b"GGUF", 3, 0, 2) + ONE_KEY * 2 + bytes(99), "twice"),
    "too many dimensions": (HEADER + ONE_KEY + tensor(1, rank=1 << 31) + bytes(99), "2147483648 dimensions"),
    "no dimension": (HEADER + ONE_KEY + tensor() + bytes(99), "0 dimensions"),
    "a product beyond 64 bits": (HEADER + ONE_KEY + tensor(1 << 33, 1 << 33) + bytes(99), "ends before the values"),
    "a product that wraps to 4": (HEADER + ONE_KEY + tensor(4, 1 << 62, 4) + bytes(99), "ends before the values"),
    "no values": (HEADER + ONE_KEY + tensor(0, 4) + bytes(99), "cannot have"),
    "a part of a block": (HEADER + ONE_KEY + tensor(33, kind=8) + bytes(99), r"\[33\], which Q8_0 cannot have"),
    "an unknown storage": (HEADER + ONE_KEY + tensor(1, kind=999) + bytes(99), "as type 999"),
    "values beyond the file": (HEADER + ONE_KEY + tensor(1, offset=HUGE) + bytes(99), "ends before the values"),
    "a tensor over another": (
        struct.pack("<4sIQQ", b"GGUF", 3, 2, 0) + tensor(4) + tensor(4).replace(b"a.weight", b"b.weight") + bytes(99),
        "over another",
    ),
    "a tensor twice": (struct.pack("<4sIQQ", b"GGUF", 3, 2, 0) + tensor(4) * 2 + bytes(99), "twice"),
    "an odd alignment": (
        HEADER + ONE_KEY.replace(text(b"a.key"), text(b"general.alignment")) + tensor(1) + bytes(99),
        "general.alignment as 7",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_named(tmp_path: Path, name: str) -> None:
    content, words = DAMAGED[name]
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(SourceError, match=words):
        read_gguf(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_the_content_is_what_the_package_gguf_reads(tmp_path: Path) -> None:
    extra = {"general.flag": True, "general.items": [1, 2, 3], "general.numbers": [1.5, -2.0], "general.name": "naïve"}
    path = write_gguf(tmp_path / "model.gguf", make("llama", {}), extra)
    file, reference = read_gguf(path), gguf.GGUFReader(path)
    assert file.metadata == {
        name: field.contents() for name, field in reference.fields.items() if not name.startswith("GGUF.")
    }
    assert file.tensors.keys() == {one.name for one in reference.tensors}
    for one in reference.tensors:
        np.testing.assert_array_equal(file.tensors[one.name].values(), one.data)


def test_a_storage_that_gguf_cannot_convert_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(HEADER + ONE_KEY + tensor(4, kind=gguf.GGMLQuantizationType.I32) + bytes(99))
    with pytest.raises(SourceError, match=r"stores a\.weight as I32"):
        read_gguf(path).tensors["a.weight"].values()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tokenizer.ggml.eos_token_id": 1 << 20}, "eos_token_id as 1048576 and has 259 tokens"),
        ({"tokenizer.ggml.bos_token_id": "one"}, "bos_token_id as 'one'"),
        ({"tokenizer.ggml.token_type": [1, 2]}, "259 tokens and 2 items of tokenizer.ggml.token_type"),
        ({"tokenizer.ggml.token_type": 7}, "token_type as 7"),
        ({"tokenizer.ggml.tokens": [1, 2]}, r"tokens as \[1, 2\]"),
        ({"tokenizer.ggml.merges": ["a b", 7]}, "merges as"),
        ({"tokenizer.ggml.pre": 7}, "pre as 7"),
        ({"tokenizer.chat_template": 7}, "chat_template as 7"),
    ],
)
def test_a_tokenizer_that_contradicts_itself_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    metadata = read_gguf(write_gguf(tmp_path / "model.gguf", make("llama", {}))).metadata
    with pytest.raises(SourceError, match=words):
        checked_vocabulary(metadata | change)


def test_padding_beyond_the_vocabulary_is_left_out(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", make("llama", {}), {"tokenizer.ggml.padding_token_id": 259})
    assert load(path).config.pad_token_id is None


@pytest.mark.parametrize("name", ["token_embd.weight", "blk.1.ffn_up.weight", "output_norm.weight"])
def test_a_shape_that_the_metadata_contradicts_is_refused(tmp_path: Path, name: str) -> None:
    path = write_gguf(tmp_path / "wrong.gguf", make("llama", {}), tensors={name: np.ones((5, 32), np.float32)})
    with pytest.raises(SourceError, match=rf"hold {name} of shape \[5, 32\], but the metadata asks for"):
        load(path)


def damaged(content: bytes, generator: random.Random) -> bytes:
    """Return the file with changed bytes, a changed number, a missing run of bytes, or without its end."""
    changed = bytearray(content)
    for _ in range(generator.choice((1, 1, 2, 8))):
        place = generator.randrange(HEADER_BYTES)
        match generator.randrange(4):
            case 0:
                changed[place : place + 1] = generator.randbytes(1)
            case 1:
                changed[place : place + 8] = struct.pack("<Q", generator.choice((0, 1, HUGE, (1 << 64) - 1, 1 << 31)))
            case 2:
                del changed[place : place + generator.randrange(1, 64)]
            case 3:
                del changed[generator.randrange(len(changed)) :]
    return bytes(changed)


@pytest.mark.nightly("damaged GGUF files")
def test_random_damage(tmp_path: Path, full: bool, figure: Callable[[str], None]) -> None:
    """A changed number may make a sound file of another model. Everything else is one sentence, and costs no memory."""
    content = write_gguf(tmp_path / "whole.gguf", make("llama", {})).read_bytes()
    generator, path = random.Random(0), tmp_path / "model.gguf"
    rounds, refused = 2000 if full else 60, list[str]()
    load(path.with_name("whole.gguf"))
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what is used now
    before = peak_bytes()
    for _ in range(rounds):
        path.write_bytes(damaged(content, generator))
        try:
            load(path)
        except SourceError as error:
            refused.append(str(error))
    grown = peak_bytes() - before
    assert grown < 256 << 20
    assert [line for line in refused if not line.isprintable() or len(line) > 600] == []
    assert len(refused) > rounds // 2
    figure(f"{rounds} files, {len(refused)} refused, +{grown >> 20} MiB at most")


def load(path: Path) -> Any:
    return load_model(resolve(str(path), revision="main", model_id="tiny", note=print))


def peak_bytes() -> int:
    [line] = [one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM")]
    return int(line.split()[1]) << 10
