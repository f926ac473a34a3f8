"""The safetensors files of a model's folder."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

from infrs.errors import SourceError

from .config_check import first_line, read_json

INDEX = "model.safetensors.index.json"
INDEX_BYTES = 64 << 20
_HEADER_BYTES = 32 << 20  # of one file; 100,000 tensors take 13 MB
_SINGLE = "model.safetensors"
_SHARD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\.safetensors")
_OF_A_SPLIT = re.compile(r"model-\d+-of-\d+\.safetensors")


class Stored(NamedTuple):
    """A tensor of the checkpoint. dtype: as safetensors spells it, such as "BF16"."""

    shape: tuple[int, ...]
    dtype: str


def weight_files(directory: Path) -> list[Path]:
    """Return the safetensors files of the model; listed files may be missing.

    Raises SourceError for names outside the folder.
    """
    if (directory / INDEX).is_file():
        names = sorted(set(_weight_map(directory).values()))
        if len({name.lower() for name in names}) < len(names):
            raise SourceError(f"{INDEX} names files that differ only in case, which are one file on some systems")
        if _SINGLE not in names and (directory / _SINGLE).is_file():  # transformers would read this one instead
            raise SourceError(f"the folder holds {_SINGLE} and the shards of {INDEX}; remove one of the two")
        return [directory / name for name in names]
    single = directory / _SINGLE
    return [single] if single.is_file() else []


def check_files(directory: Path) -> list[Path]:
    """Return the safetensors files of the model.

    Raises SourceError if there are none, if one is missing, or if the folder holds shards that the index does not list.
    """
    files = weight_files(directory)
    found = sorted(path.name for path in directory.iterdir() if _holds_weights(path))
    listed = {path.name for path in files}
    for name in found:
        if _OF_A_SPLIT.fullmatch(name) and name not in listed:
            lists = "does not list it" if (directory / INDEX).is_file() else "is missing"
            raise SourceError(f"the folder holds {name}, but {INDEX} {lists}; download the model again")
    for file in files:
        if not file.is_file():
            raise SourceError(f"{file.name} is named by {INDEX} but is missing; download the model again")
    if not files and found:
        raise SourceError(
            f"the folder holds {found[0]}, but infrs reads {_SINGLE} or the shards of {INDEX}; "
            "save the model again with save_pretrained"
        )
    if not files:
        raise SourceError(
            f"{directory.name} holds no safetensors weights; infrs does not load pickles, convert the model first"
        )
    return files


def _holds_weights(path: Path) -> bool:
    return path.suffix.lower() == ".safetensors" and path.is_file()


def read_tensors(directory: Path) -> dict[str, Stored]:
    """Read the shape and dtype of every tensor from the headers of the files.

    Raises SourceError for damaged files, and if the index and the shards disagree.
    """
    tensors: dict[str, Stored] = {}
    places: dict[str, str] = {}
    for path in weight_files(directory):
        header = read_header(path)
        for name in header.keys() & tensors.keys():
            raise SourceError(f"{path.name} and {places[name]} both hold {name}; download the model again")
        tensors |= header
        places |= dict.fromkeys(header, path.name)
    if (directory / INDEX).is_file():
        listed = _weight_map(directory)
        for name in sorted(listed.keys() | places.keys()):
            if listed.get(name) != places.get(name):
                raise SourceError(
                    f"{INDEX} and the shards disagree on {name} ({listed.get(name, 'not listed')} against "
                    f"{places.get(name, 'in no shard')}); download the model again"
                )
    return tensors


def read_header(path: Path, most_bytes: int = _HEADER_BYTES) -> dict[str, Stored]:
    """Read the shape and dtype of the tensors in a file. most_bytes: of its header.

    Raises SourceError for damaged files.
    """
    name = f"{path.parent.name}/{path.name}"
    try:
        with path.open("rb") as opened:
            size = int.from_bytes(opened.read(8), "little")
            if size > most_bytes:
                raise SourceError(f"{name} has a header of {size} bytes, which no model needs; download it again")
            header = opened.read(size)
        with safe_open(path, framework="numpy") as file:  # checks names, shapes, dtypes and offsets
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118  # not a mapping
            tensors = {key: Stored(tuple(part.get_shape()), part.get_dtype()) for key, part in slices.items()}
        json.loads(header, object_pairs_hook=_without_repeats)
    except (OSError, SafetensorError, ValueError) as error:
        raise SourceError(f"{name} is damaged ({first_line(error):.200}); download it again") from error
    return tensors


def _without_repeats(pairs: list[tuple[str, object]]) -> None:
    """Raise ValueError if a JSON object has a key twice: readers differ on which of the two counts."""
    names: set[str] = set()
    for name, _ in pairs:
        if name in names:
            raise ValueError(f"its header holds {name!a:.80} twice")
        names.add(name)


def _weight_map(directory: Path) -> dict[str, str]:
    """Read the shard of each tensor from the index. Raises SourceError."""
    weight_map = read_json(directory / INDEX, limit=INDEX_BYTES).get("weight_map")
    if not isinstance(weight_map, dict):
        raise SourceError(f"{INDEX} has no weight_map; download the model again")
    for name in weight_map.values():
        if not isinstance(name, str) or not _SHARD.fullmatch(name):
            raise SourceError(f"{INDEX} names {name!a}, which is not a safetensors file next to it")
    return weight_map
