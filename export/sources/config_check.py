"""Read a model's JSON files with a bound on their size, and refuse configurations that infrs will not load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from infrs.errors import SourceError

CONFIG_BYTES = 1 << 20
_ATTENTION = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal")
# Far beyond any model, so that what is made of a configuration before its weights are read stays small.
_LARGEST = {
    **dict.fromkeys(("num_hidden_layers", "num_layers", "n_layer", "n_layers"), 1024),
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "n_head", "n_heads"), 1 << 14),
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "head_dim"), 1 << 18),
    **dict.fromkeys(("intermediate_size", "moe_intermediate_size", "ffn_dim", "n_inner"), 1 << 20),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 1 << 12),
    "vocab_size": 1 << 22,
}


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
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(f"{path} is not a readable JSON file; is this a Hugging Face model folder?") from error


def check_config(config: dict[str, Any]) -> None:
    """Raises SourceError for a configuration that needs remote code, is quantised already or too large."""
    if config.get("auto_map"):
        raise SourceError("this model needs code from its repository (auto_map), which infrs never runs")
    for name in _ATTENTION:
        if "/" in str(config.get(name) or ""):
            raise SourceError(f"this model needs code from the Hub ({name}), which infrs never runs")
    if any(part.get("quantization_config") for part in _parts(config)):
        raise SourceError(
            "these weights are quantised already; name the model they were made from and choose --dtype int4"
        )
    if not isinstance(config.get("model_type"), str):
        raise SourceError("config.json names no model_type; infrs needs a transformers causal language model")
    for part in _parts(config):
        for name, largest in _LARGEST.items():
            size = part.get(name)
            if isinstance(size, int | float) and not 0 <= size <= largest:
                raise SourceError(f"config.json gives {name} as {size}; infrs serves models of at most {largest}")


def check_sizes(config: dict[str, Any], num_weights: int) -> None:
    """Raises SourceError if the configuration has matrices larger than all weights together: they would be made up."""
    for part in _parts(config):
        for other in ("vocab_size", "intermediate_size"):
            rows, columns = part.get(other), part.get("hidden_size")
            if isinstance(rows, int) and isinstance(columns, int) and rows * columns > num_weights:
                raise SourceError(
                    f"config.json gives hidden_size and {other} as {columns} and {rows}, "
                    f"which {num_weights} weights cannot fill; download the model again"
                )


def first_line(error: Exception) -> str:
    """What a library's error says, on one line, with its kind unless that is one that is raised with a sentence."""
    line, *more = str(error).strip().splitlines() or [""]
    if line.endswith(":") and more:
        line = f"{line} {more[0].strip()}"
    plain = isinstance(error, OSError | ValueError | RuntimeError) and " " in line
    return line if plain else f"{type(error).__name__}: {line}".removesuffix(": ")


def _parts(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The configuration and those within it, of a model of several parts."""
    return [config, *(value for value in config.values() if isinstance(value, dict))]
