"""The safetensors files of a model's folder."""

from __future__ import annotations

from pathlib import Path

from infrs.errors import SourceError

from .config_check import read_json

INDEX = "model.safetensors.index.json"
INDEX_BYTES = 64 << 20


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files of the model, which may be missing. Raises SourceError for names that lead elsewhere."""
    index = directory / INDEX
    if index.is_file():
        names = sorted(set(read_json(index, limit=INDEX_BYTES).get("weight_map", {}).values()))
        for name in names:
            if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
                raise SourceError(f"{INDEX} names {name!r}, which is not a safetensors file beside it")
        return [directory / name for name in names]
    single = directory / "model.safetensors"
    return [single] if single.is_file() else []
