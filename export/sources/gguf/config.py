"""Read the metadata of a GGUF file that transformers ignores.

transformers reads a few keys. This module reads every other key, ignores it if it has no effect, or refuses it by name.
The meaning of each is that of llama.cpp (src/llama-model.cpp, `load_hparams`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infrs.errors import SourceError

ARCHITECTURES = {name: name for name in ("gemma2", "llama", "qwen2", "qwen3")} | {
    "gemma3": "gemma3_text"
}  # model types
ROPE_FACTORS = "rope_freqs.weight"

_REQUIRED = (
    "context_length",
    "block_count",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.layer_norm_rms_epsilon",
)
_READ = {
    *_REQUIRED,
    "vocab_size",
    "attention.key_length",
    "attention.value_length",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "rope.scale_linear",  # what rope.scaling.factor was called
}
_READ_BY = {
    "gemma2": {"attention.sliding_window", "attn_logit_softcapping", "final_logit_softcapping"},
    "gemma3": {"attention.sliding_window", "rope.freq_base_swa", "final_logit_softcapping"},
}
# The least and the largest value of each number; the least is allowed only where it is an integer. No model is near the
# largest. The limits bound what is built from the metadata before the tensors are read.
_RANGES: dict[str, tuple[float, float]] = {
    "context_length": (1, 1 << 24),
    "block_count": (1, 1 << 10),
    "embedding_length": (1, 1 << 18),
    "feed_forward_length": (1, 1 << 20),
    "vocab_size": (1, 1 << 22),
    "attention.head_count": (1, 1 << 14),
    "attention.head_count_kv": (1, 1 << 14),
    "attention.key_length": (1, 1 << 18),
    "attention.value_length": (1, 1 << 18),
    "attention.sliding_window": (0, 1 << 32),
    "attention.layer_norm_rms_epsilon": (0.0, 1),
    "attn_logit_softcapping": (0, 1e6),
    "final_logit_softcapping": (0, 1e6),
    "rope.dimension_count": (1, 1 << 18),
    "rope.freq_base": (0.0, 1e12),
    "rope.freq_base_swa": (0.0, 1e12),
    "rope.scaling.factor": (0, 1e6),
    "rope.scale_linear": (0, 1e6),
    "rope.scaling.original_context_length": (0, 1 << 24),
    "rope.scaling.yarn_beta_fast": (0, 1e6),
    "rope.scaling.yarn_beta_slow": (0, 1e6),
}
# Keys that change nothing, at these values; None is any value.
_NEUTRAL: dict[str, tuple[object, ...] | None] = {
    "attention.causal": (True,),
    "attention.clamp_kqv": (0,),
    "attention.max_alibi_bias": (0,),
    "expert_count": (0,),
    "expert_used_count": (0,),
    "rope.scaling.attn_factor": (1, 0),
    "rope.scaling.finetuned": None,
    "rope.scaling.yarn_attn_factor": (1,),
    "rope.scaling.yarn_ext_factor": (1, -1),
    "rope.scaling.yarn_log_multiplier": (0,),
    "tensor_data_layout": None,
}
_PATTERNS = {"gemma2": 2, "gemma3": 6}  # one layer in this many has no window
# The number of layers of the one size that scales scores by the model's width instead of the head's.
_SCALED_BY_WIDTH = {"gemma2": 46, "gemma3": 62}

Metadata = Mapping[str, Any]


def check_whole(metadata: Metadata) -> None:
    """Raise SourceError for one shard of a split model, an adapter, or an architecture that infrs does not read."""
    if (count := metadata.get("split.count", 0)) > 1:
        raise SourceError(
            f"this file is part {metadata.get('split.no', 0) + 1} of {count} of a split model; join them with "
            "llama.cpp's llama-gguf-split --merge and export the result"
        )
    if (kind := metadata.get("general.type", "model")) != "model":
        raise SourceError(f"this GGUF file is of general.type {kind!r:.40}, not a whole model; merge it into its model")
    architecture = metadata.get("general.architecture")
    if architecture not in ARCHITECTURES:
        raise SourceError(
            f"infrs reads GGUF files of {', '.join(sorted(ARCHITECTURES))}, not of {architecture!r:.40}; "
            "export the Hugging Face model instead"
        )


def config_fields(metadata: Metadata, rope_factors: list[float] | None) -> dict[str, Any]:
    """Return the fields of the Hugging Face configuration that transformers does not read from the file.

    rope_factors: divisors of the rotary frequencies (the tensor ROPE_FACTORS), or None.
    Raises SourceError, with the key, for metadata that infrs does not support.
    """
    name = str(metadata["general.architecture"])
    prefix = f"{name}."
    values = {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)}
    _check_keys(name, values)
    width, heads = values["embedding_length"], values["attention.head_count"]
    head_dim = values.get("attention.key_length", width // heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        if values.get(key, head_dim) != head_dim:
            raise SourceError(f"{prefix}{key} is {values[key]}, but the width of a head is {head_dim}: not supported")
    # transformers loads a llama with the name "mistral" as another model, with a window that it may not have.
    fields: dict[str, Any] = {"model_type": ARCHITECTURES[name], "head_dim": head_dim}
    fields |= _rope(name, values, rope_factors, head_dim)
    if "rope.freq_base" not in values:
        fields["rope_theta"] = 10000.0
    if name in _SCALED_BY_WIDTH:
        by_width = values["block_count"] == _SCALED_BY_WIDTH[name]
        fields["query_pre_attn_scalar"] = width // heads if by_width else head_dim
    for key in ("attn_logit_softcapping", "final_logit_softcapping"):
        if key in values and key in _READ_BY.get(name, ()):
            fields[key] = values[key] or None
    if "rope.freq_base_swa" in values:
        fields["rope_local_base_freq"] = values["rope.freq_base_swa"]
    return fields


def _check_keys(name: str, values: Metadata) -> None:
    required = (*_REQUIRED, "attention.sliding_window") if name == "gemma3" else _REQUIRED
    for key in required:
        if key not in values:
            raise SourceError(f"the GGUF file has no {name}.{key}, which infrs needs; convert the model again")
    pattern = _PATTERNS.get(name)
    neutral = _NEUTRAL if pattern is None else _NEUTRAL | {"attention.sliding_window_pattern": (pattern,)}
    for key, value in values.items():
        if isinstance(value, list):
            raise SourceError(f"{name}.{key} differs by layer, which infrs does not support")
        if key in _RANGES and not _in_range(value, *_RANGES[key]):
            least, largest = _RANGES[key]
            raise SourceError(
                f"the GGUF file gives {name}.{key} as {value!r:.40}, which is not between {least:g} and {largest:g}; "
                "convert the model again"
            )
        same = neutral.get(key, ())
        if key not in _READ | _READ_BY.get(name, set()) and same is not None and value not in same:
            raise SourceError(
                f"the GGUF file gives {name}.{key} as {value!r:.40}, which infrs does not support; "
                "export the Hugging Face model instead"
            )


def _in_range(value: object, least: float, largest: float) -> bool:
    """Return whether a value is a number in its range. NaN is in none."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return least <= value <= largest and (isinstance(least, int) or value > least)


def _rope(name: str, values: Metadata, factors: list[float] | None, head_dim: int) -> dict[str, Any]:
    """Return the scaling of rotary positions. As in llama.cpp, a factor without a type is linear."""
    kind = values.get("rope.scaling.type", "linear")
    factor = values.get("rope.scaling.factor", values.get("rope.scale_linear", 0)) or 1.0
    if kind not in ("none", "linear", "yarn") or (kind == "yarn" and name.startswith("gemma")):
        raise SourceError(f"{name}.rope.scaling.type is {kind!r:.40}, which infrs does not support")
    if kind == "none":
        factor = 1.0
    if factors is not None:
        return _by_frequency(name, values, [item * factor for item in factors], head_dim, kind)
    if kind == "yarn":
        original = values.get("rope.scaling.original_context_length") or values["context_length"]
        betas = {beta: values.get(f"rope.scaling.yarn_{beta}") for beta in ("beta_fast", "beta_slow")}
        scaling = {"rope_type": kind, "factor": factor, "original_max_position_embeddings": original}
        return {"rope_scaling": scaling | {beta: value for beta, value in betas.items() if value is not None}}
    return {} if factor == 1.0 else {"rope_scaling": {"rope_type": kind, "factor": factor}}


def _by_frequency(name: str, values: Metadata, factors: list[float], head_dim: int, kind: str) -> dict[str, Any]:
    """Return a scaling with a factor per frequency (Llama 3.1): transformers' longrope, one list for all lengths."""
    if name != "llama" or kind == "yarn" or len(factors) != head_dim // 2:
        raise SourceError(
            f"the GGUF file holds {len(factors)} factors in {ROPE_FACTORS}, which infrs cannot apply to {name} "
            f"with heads of {head_dim} and rope.scaling.type {kind}"
        )
    context = values["context_length"]
    lists = {"short_factor": factors, "long_factor": factors}
    scaling = {"rope_type": "longrope", "factor": 1.0, "attention_factor": 1.0, **lists}
    return {"rope_scaling": scaling, "original_max_position_embeddings": context}
