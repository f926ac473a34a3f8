"""The safetensors files of a model's folder."""

from __future__ import annotations

import math
import re
from pathlib import Path

from safetensors import safe_open

from infrs.errors import SourceError

from .config_check import read_json

INDEX = "model.safetensors.index.json"
INDEX_BYTES = 64 << 20
_SHARD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\.safetensors")


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files of the model, which may be missing. Raises SourceError for names that lead elsewhere."""
    index = directory / INDEX
    if index.is_file():
        weight_map = read_json(index, limit=INDEX_BYTES).get("weight_map")
        if not isinstance(weight_map, dict):
            raise SourceError(f"{INDEX} has no weight_map; download the model again")
        for name in weight_map.values():
            if not isinstance(name, str) or not _SHARD.fullmatch(name):
                raise SourceError(f"{INDEX} names {name!a}, which is not a safetensors file beside it")
        names = sorted(set(weight_map.values()))
        if len({name.lower() for name in names}) < len(names):
            raise SourceError(f"{INDEX} names files that differ in case alone, which are one file on some systems")
        return [directory / name for name in names]
    single = directory / "model.safetensors"
    return [single] if single.is_file() else []


def num_weights(directory: Path) -> int:
    """Elements of all tensors, by the files' headers. Raises SafetensorError, OSError, SourceError."""
    count = 0
    for path in weight_files(directory):
        with safe_open(path, framework="numpy") as file:
            count += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    return count
