"""Read a model's JSON files up to a maximum size, and refuse configurations that infrs does not load."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from infrs.errors import SourceError

CONFIG_BYTES = 1 << 20
_ATTENTION = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal")
_QUANTISED = ("quantization_config", "compression_config", "quantization")  # the last one is MLX's
# Far above any model. The limits keep small what is built from a configuration before its weights are read.
LARGEST = {
    **dict.fromkeys(("num_hidden_layers", "num_layers", "n_layer", "n_layers"), 1024),
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "n_head", "n_heads"), 1 << 14),
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "head_dim"), 1 << 18),
    **dict.fromkeys(("intermediate_size", "moe_intermediate_size", "ffn_dim", "n_inner"), 1 << 20),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 1 << 12),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "original_max_position_embeddings"), 1 << 24),
    **dict.fromkeys(("vocab_size", "num_labels"), 1 << 22),
}
_MAY_BE_NULL = LARGEST.keys() - {"hidden_size", "max_position_embeddings", "num_hidden_layers", "vocab_size"}
_MAY_BE_ZERO = {"num_experts", "num_local_experts", "n_routed_experts", "num_labels"}
_MAY_DIFFER = {"intermediate_size"}  # by layer (gemma3n)
_FLOAT = "__float__"
NEEDS_CODE = "this model needs code from its repository (auto_map), which infrs never runs"
_EPSILON = re.compile(r"(^|_)eps(ilon)?$")


def read_json(path: Path, limit: int = CONFIG_BYTES) -> dict[str, Any]:
    """Read a JSON object of at most `limit` bytes. Raises SourceError."""
    value = _load(path, limit)
    if not isinstance(value, dict):
        raise SourceError(f"{path} is not a JSON object")
    return value


def read_json_list(path: Path) -> list[dict[str, Any]]:
    """Read a non-empty JSON array of objects. Raises SourceError."""
    value = _load(path, CONFIG_BYTES)
    if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
        raise SourceError(f"{path} is not a JSON array of objects")
    return value


def _load(path: Path, limit: int) -> object:
    try:
        if path.exists() and not path.is_file():  # reading a pipe or a device may never end
            raise SourceError(f"{path} is not a regular file; is this a Hugging Face model folder?")
        if path.stat().st_size > limit:
            raise SourceError(f"{path.name} is larger than {limit} bytes, which no model needs")
        return json.loads(path.read_bytes(), object_hook=_float)
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(f"{path} is not a readable JSON file; is this a Hugging Face model folder?") from error


def _float(value: dict[str, Any]) -> object:
    """Return the number that transformers 5 writes as an object, because JSON has no infinity; else `value` itself."""
    name = value.get(_FLOAT)
    return float(name) if len(value) == 1 and name in ("Infinity", "-Infinity", "NaN") else value


def is_mxfp4(config: dict[str, Any]) -> bool:
    """Return whether a model is gpt-oss with experts in MXFP4, as OpenAI publishes it, which is dequantised."""
    given = config.get("quantization_config")
    return config.get("model_type") == "gpt_oss" and isinstance(given, dict) and given.get("quant_method") == "mxfp4"


def check_config(config: dict[str, Any]) -> None:
    """Raise SourceError for a configuration that needs remote code, is already quantised or is too large."""
    if names_code(config) and not _is_own_model(config):
        raise SourceError(NEEDS_CODE)
    for name in _ATTENTION:
        if "/" in str(config.get(name) or ""):
            raise SourceError(f"this model needs code from the Hub ({name}), which infrs never runs")
    if any(part.get(name) for part in _parts(config) for name in _QUANTISED) and not is_mxfp4(config):
        raise SourceError(
            "these weights are quantised already; name the model they were made from and choose --dtype int4"
        )
    if not isinstance(config.get("model_type"), str):
        raise SourceError("config.json names no model_type; infrs needs a transformers causal language model")
    for part in _parts(config):
        for name in LARGEST:
            if name in part:
                _check_size(name, part[name])
        for name, value in part.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if _EPSILON.search(name) and value is not None and not (number and 0 < value <= 1):
                raise SourceError(f"config.json gives {name} as {value!r:.60}, which is not a number from 0 to 1")


def _check_size(name: str, given: object) -> None:
    """Raise SourceError unless a field of LARGEST is within its limits; it can be a list where layers may differ."""
    least, largest = int(name not in _MAY_BE_ZERO), LARGEST[name]
    by_layer = name in _MAY_DIFFER and isinstance(given, list)
    for size in given if by_layer else [given]:  # type: ignore[attr-defined]
        if not (size is None and name in _MAY_BE_NULL) and not (type(size) is int and least <= size <= largest):
            raise SourceError(
                f"config.json gives {name} as {size!r:.60}, which is not a whole number from {least} to {largest}"
            )


def names_code(config: dict[str, Any]) -> bool:
    """Return whether a configuration names code in its repository."""
    return bool(config.get("auto_map"))


def _is_own_model(config: dict[str, Any]) -> bool:
    """Return whether the code of a repository is that of transformers' own causal language model of the same name.

    Repositories from before their family was in transformers still name code, such as Phi-3 and DeepSeek V3. Then
    transformers prefers its own class, and infrs never runs the other. A model type alone says nothing: code for
    another model may use it.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES  # noqa: PLC0415  # slow

    own = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(str(config.get("model_type")))
    given = config["auto_map"]
    code = given.get("AutoModelForCausalLM") if isinstance(given, dict) else None
    return own is not None and config.get("architectures") == [own] and str(code).rpartition(".")[2] == own


def check_sizes(config: dict[str, Any], num_weights: int) -> None:
    """Raise SourceError if a matrix of the configuration has more values than the checkpoint has weights.

    transformers would fill such a matrix with random values.
    """
    for part in _parts(config):
        for other in ("vocab_size", "intermediate_size"):
            rows, columns = part.get(other), part.get("hidden_size")
            if isinstance(rows, int) and isinstance(columns, int) and rows * columns > num_weights:
                raise SourceError(
                    f"config.json gives hidden_size and {other} as {columns} and {rows}, "
                    f"which {num_weights} weights cannot fill; download the model again"
                )


def first_line(error: BaseException) -> str:
    """Return a library's error message on one line, with the exception's class unless the message is a sentence."""
    line, *more = str(error).strip().splitlines() or [""]
    if line.endswith(":") and more:
        line = f"{line} {more[0].strip()}"
    plain = isinstance(error, OSError | ValueError | RuntimeError) and " " in line
    return line if plain else f"{type(error).__name__}: {line}".removesuffix(": ")


def _parts(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the configuration and the configurations inside it, such as those of text and vision."""
    return [config, *(value for value in config.values() if isinstance(value, dict))]
