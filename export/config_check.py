"""Read a model's JSON files with a bound on their size, and refuse configurations that infrs will not load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from infrs.errors import SourceError

CONFIG_BYTES = 1 << 20


def read_json(path: Path, limit: int = CONFIG_BYTES) -> dict[str, Any]:
    """A JSON object of at most `limit` bytes. Raises SourceError."""
    value = _load(path, limit)
    if not isinstance(value, dict):
        raise SourceError(f"{path} is not a JSON object")
    return value


def read_json_list(path: Path) -> list[dict[str, Any]]:
    """A JSON array of objects, not empty. Raises SourceError."""
    value = _load(path, CONFIG_BYTES)
    if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
        raise SourceError(f"{path} is not a JSON array of objects")
    return value


def _load(path: Path, limit: int) -> object:
    try:
        if path.stat().st_size > limit:
            raise SourceError(f"{path.name} is larger than {limit} bytes, which no model needs")
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} is not a readable JSON file; is this a Hugging Face model folder?") from error


def check_config(config: dict[str, Any]) -> None:
    """Raises SourceError for a configuration that needs remote code or is quantised already."""
    if config.get("auto_map"):
        raise SourceError("this model needs code from its repository (auto_map), which infrs never runs")
    if config.get("quantization_config"):
        raise SourceError(
            "these weights are quantised already; name the model they were made from and choose --dtype int4"
        )
    if not isinstance(config.get("model_type"), str):
        raise SourceError("config.json names no model_type; infrs needs a transformers causal language model")
