"""The safetensors files of a model's folder."""

from __future__ import annotations

import re
from pathlib import Path

from safetensors import safe_open

from infrs.errors import SourceError

from .config_check import read_json

INDEX = "model.safetensors.index.json"
INDEX_BYTES = 64 << 20
_SINGLE = "model.safetensors"
_SHARD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\.safetensors")


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


def read_shapes(directory: Path) -> dict[str, tuple[int, ...]]:
    """Read the name and shape of every tensor from the headers of the files.

    Raises SourceError if the index and the shards disagree; SafetensorError and OSError for damaged files.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    places: dict[str, str] = {}
    for path in weight_files(directory):
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118  # not a mapping
                if name in shapes:
                    raise SourceError(f"{path.name} and {places[name]} both hold {name}; download the model again")
                shapes[name], places[name] = tuple(file.get_slice(name).get_shape()), path.name
    if (directory / INDEX).is_file():
        listed = _weight_map(directory)
        for name in sorted(listed.keys() | places.keys()):
            if listed.get(name) != places.get(name):
                raise SourceError(
                    f"{INDEX} and the shards disagree on {name} ({listed.get(name, 'not listed')} against "
                    f"{places.get(name, 'in no shard')}); download the model again"
                )
    return shapes


def tensor_file(directory: Path, name: str) -> Path:
    """Return the file with the tensor `name`. Raises SourceError."""
    return directory / (_weight_map(directory)[name] if (directory / INDEX).is_file() else _SINGLE)


def _weight_map(directory: Path) -> dict[str, str]:
    """Read the shard of each tensor from the index. Raises SourceError."""
    weight_map = read_json(directory / INDEX, limit=INDEX_BYTES).get("weight_map")
    if not isinstance(weight_map, dict):
        raise SourceError(f"{INDEX} has no weight_map; download the model again")
    for name in weight_map.values():
        if not isinstance(name, str) or not _SHARD.fullmatch(name):
            raise SourceError(f"{INDEX} names {name!a}, which is not a safetensors file next to it")
    return weight_map
