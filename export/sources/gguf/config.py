"""Convert the metadata of a GGUF file to the configuration of transformers.

Every key of the architecture sets a field, has no effect, or is refused by name. The meaning of each is that of
llama.cpp (src/llama-model.cpp, `load_hparams`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from infrs.errors import SourceError

from . import gated_delta
from .architectures import ARCHITECTURES, LONG_FACTORS, ROPE_FACTORS, SHORT_FACTORS

_ATTENTION_FACTOR = "rope.scaling.attn_factor"

_ROTARY = {  # besides the factors below
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "rope.scale_linear",  # what rope.scaling.factor was called
}
_READ = {"vocab_size", "attention.key_length", "attention.value_length"}
# The least and the largest value of each number; the least is allowed only where it is an integer. No model is near the
# largest. The limits bound what is built from the metadata before the tensors are read.
_RANGES: dict[str, tuple[float, float]] = {
    "context_length": (1, 1 << 24),
    "block_count": (1, 1 << 10),
    "embedding_length": (1, 1 << 18),
    "feed_forward_length": (1, 1 << 20),
    "expert_count": (0, 1 << 14),
    "expert_used_count": (0, 1 << 14),
    "expert_feed_forward_length": (1, 1 << 20),
    "expert_shared_feed_forward_length": (1, 1 << 20),
    "vocab_size": (1, 1 << 22),
    "attention.head_count": (1, 1 << 14),
    "attention.head_count_kv": (1, 1 << 14),
    "attention.key_length": (1, 1 << 18),
    "attention.value_length": (1, 1 << 18),
    "attention.sliding_window": (0, 1 << 32),
    "full_attention_interval": (1, 1 << 10),
    "nextn_predict_layers": (0, 1 << 4),
    "ssm.conv_kernel": (1, 1 << 8),
    "ssm.group_count": (1, 1 << 14),
    "ssm.inner_size": (1, 1 << 20),
    "ssm.state_size": (1, 1 << 14),
    "ssm.time_step_rank": (1, 1 << 14),
    "rope.dimension_count": (1, 1 << 18),
    "rope.scaling.original_context_length": (0, 1 << 24),
    "attention.layer_norm_epsilon": (0.0, 1.0),
    "attention.layer_norm_rms_epsilon": (0.0, 1.0),
    "attention.clamp_kqv": (0, 1e6),
    "attention.scale": (0.0, 1e6),
    "attn_logit_softcapping": (0, 1e6),
    "embedding_scale": (0.0, 1e6),
    "final_logit_softcapping": (0, 1e6),
    "logit_scale": (0.0, 1e6),
    "residual_scale": (0.0, 1e6),
    "rope.freq_base": (0.0, 1e12),
    "rope.freq_base_swa": (0.0, 1e12),
    "rope.scaling.factor": (0, 1e6),
    _ATTENTION_FACTOR: (0, 1e6),
    "rope.scale_linear": (0, 1e6),
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
    _ATTENTION_FACTOR: (1, 0),
    "rope.scaling.finetuned": None,
    "rope.scaling.yarn_attn_factor": (1,),
    "rope.scaling.yarn_ext_factor": (1, -1),
    "rope.scaling.yarn_log_multiplier": (0,),
    "tensor_data_layout": None,
}
_TOKENS = "tokenizer.ggml.tokens"
_ROLES = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}

Metadata = Mapping[str, Any]


def check_whole(metadata: Metadata) -> None:
    """Raise SourceError for one shard of a split model, an adapter, or an architecture that infrs does not read."""
    count, shard = metadata.get("split.count", 0), metadata.get("split.no", 0)
    if not isinstance(count, int) or not isinstance(shard, int):
        raise SourceError("the GGUF file gives split.count or split.no as no integer; convert the model again")
    if count > 1:
        raise SourceError(
            f"this file is part {shard + 1} of {count} of a split model; join them with "
            "llama.cpp's llama-gguf-split --merge and export the result"
        )
    if (kind := metadata.get("general.type", "model")) != "model":
        raise SourceError(f"this GGUF file is of general.type {kind!r:.40}, not a whole model; merge it into its model")
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        raise SourceError(
            f"infrs reads GGUF files of {', '.join(sorted(ARCHITECTURES))}, not of {architecture!r:.40}; "
            "export the Hugging Face model instead"
        )


def config_fields(metadata: Metadata, factors: Mapping[str, list[float]]) -> dict[str, Any]:
    """Return the fields of the model's configuration, `model_type` included. `metadata` is that of a whole model.

    factors: divisors of the rotary frequencies, by the names in FACTORS.
    Raises SourceError, with the key, for metadata that infrs does not support.
    """
    name = str(metadata["general.architecture"])
    architecture = ARCHITECTURES[name]
    prefix = f"{name}."
    values = {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)}
    _check_keys(name, values, {_ATTENTION_FACTOR} if LONG_FACTORS in factors else set())
    width, heads = values["embedding_length"], values["attention.head_count"]
    head_dim = values.get("attention.key_length", width // heads)
    rotary_dim = values.get("rope.dimension_count", head_dim)
    whole_heads = (
        ["attention.value_length"]
        if architecture.partial_rotary
        else ["attention.value_length", "rope.dimension_count"]
    )
    for key in whole_heads:
        if values.get(key, head_dim) != head_dim:
            raise SourceError(f"{prefix}{key} is {values[key]}, but the width of a head is {head_dim}: not supported")
    fields: dict[str, Any] = {"model_type": architecture.model_type, "head_dim": head_dim, **architecture.fixed}
    fields |= {field: values[key] for key, field in architecture.required.items()}
    fields |= {field: values[key] or None for key, field in architecture.optional.items() if key in values}
    if architecture.linear_attention:
        fields |= gated_delta.config_fields(name, values)
    fields |= _vocabulary(name, metadata, values.get("vocab_size"))
    if architecture.rotary:
        fields["rope_theta"] = values.get("rope.freq_base", 10000.0)
        fields |= _rope(name, values, factors, rotary_dim)
        if architecture.partial_rotary:
            fields["partial_rotary_factor"] = rotary_dim / head_dim
    if architecture.layers_scaled_by_width:
        by_width = values["block_count"] == architecture.layers_scaled_by_width
        fields["query_pre_attn_scalar"] = width // heads if by_width else head_dim
    return fields


def _vocabulary(name: str, metadata: Metadata, size: int | None) -> dict[str, Any]:
    """Return the size of the vocabulary and the ids of special tokens."""
    count = len(metadata.get(_TOKENS, ()))
    if size not in (None, count):
        raise SourceError(
            f"the GGUF file gives {name}.vocab_size as {size} and {count} tokens; convert the model again"
        )
    ids = {field: metadata.get(f"tokenizer.ggml.{role}_token_id") for field, role in _ROLES.items()}
    return {"vocab_size": count, **ids}


def _check_keys(name: str, values: Metadata, more: set[str]) -> None:
    architecture = ARCHITECTURES[name]
    for key in architecture.required:
        if key not in values:
            raise SourceError(f"the GGUF file has no {name}.{key}, which infrs needs; convert the model again")
    read = _READ | more | architecture.required.keys() | architecture.optional.keys()
    read |= _ROTARY if architecture.rotary else set()
    neutral = {**_NEUTRAL, **architecture.neutral}
    for key, value in values.items():
        if isinstance(value, list) and neutral.get(key, ()) is not None:
            raise SourceError(f"{name}.{key} differs by layer, which infrs does not support")
        if key in _RANGES and not _in_range(value, *_RANGES[key]):
            least, largest = _RANGES[key]
            raise SourceError(
                f"the GGUF file gives {name}.{key} as {value!r:.40}, which is not between {least:g} and {largest:g}; "
                "convert the model again"
            )
        same = neutral.get(key, ())
        if key not in read and same is not None and not any(_equal(value, one) for one in same):
            raise SourceError(
                f"the GGUF file gives {name}.{key} as {value!r:.40}, which infrs does not support; "
                "export the Hugging Face model instead"
            )


def _equal(value: object, other: object) -> bool:
    """Return whether two values are equal in 32 bits."""
    if isinstance(value, float) and isinstance(other, int | float):
        return math.isclose(value, other, rel_tol=1e-6)
    return value == other


def _in_range(value: object, least: float, largest: float) -> bool:
    """Return whether a value is a number in its range; NaN is in none. Sizes, which have integers, are integers."""
    if isinstance(value, bool) or not isinstance(value, int if isinstance(largest, int) else int | float):
        return False
    return least <= value <= largest and (isinstance(least, int) or value > least)


def _rope(name: str, values: Metadata, factors: Mapping[str, list[float]], width: int) -> dict[str, Any]:
    """Return the scaling of rotary positions. As in llama.cpp, a factor without a type is linear."""
    if factors.keys() & {SHORT_FACTORS, LONG_FACTORS}:
        return _longrope(name, values, factors, width)
    kind = values.get("rope.scaling.type", "linear")
    factor = values.get("rope.scaling.factor", values.get("rope.scale_linear", 0)) or 1.0
    if kind == "none" or (kind == "linear" and factor == 1.0):
        kind, factor = "linear", 1.0
    elif kind not in ARCHITECTURES[name].scalings:
        raise SourceError(f"{name}.rope.scaling.type is {kind!r:.40}, which infrs does not support")
    if ROPE_FACTORS in factors:
        return _by_frequency(name, values, [item * factor for item in factors[ROPE_FACTORS]], width, kind)
    if kind == "yarn":
        original = values.get("rope.scaling.original_context_length") or values["context_length"]
        betas = {beta: values.get(f"rope.scaling.yarn_{beta}") for beta in ("beta_fast", "beta_slow")}
        scaling = {"rope_type": kind, "factor": factor, "original_max_position_embeddings": original}
        return {"rope_scaling": scaling | {beta: value for beta, value in betas.items() if value is not None}}
    return {} if factor == 1.0 else {"rope_scaling": {"rope_type": kind, "factor": factor}}


def _longrope(name: str, values: Metadata, factors: Mapping[str, list[float]], width: int) -> dict[str, Any]:
    """Return the scaling with one list of factors up to the original context and another beyond it (Phi-3)."""
    kind, original = values.get("rope.scaling.type", "longrope"), values.get("rope.scaling.original_context_length")
    lists = [factors.get(each, []) for each in (SHORT_FACTORS, LONG_FACTORS)]
    has_both = {SHORT_FACTORS, LONG_FACTORS} <= {*ARCHITECTURES[name].factors}
    if not has_both or kind != "longrope" or not original or any(len(each) != width // 2 for each in lists):
        raise SourceError(
            f"the GGUF file holds {len(lists[0])} and {len(lists[1])} factors in {SHORT_FACTORS} and {LONG_FACTORS}, "
            f"which infrs cannot apply to {name} with {width} rotary features, rope.scaling.type {kind!r:.40} and "
            f"an original context of {original}"
        )
    scaling = {"rope_type": kind, "attention_factor": float(values.get(_ATTENTION_FACTOR) or 1.0)}
    scaling |= {"short_factor": lists[0], "long_factor": lists[1]}
    return {"rope_scaling": scaling, "original_max_position_embeddings": original}


def _by_frequency(name: str, values: Metadata, factors: list[float], head_dim: int, kind: str) -> dict[str, Any]:
    """Return a scaling with a factor per frequency (Llama 3.1): transformers' longrope, one list for all lengths."""
    if ROPE_FACTORS not in ARCHITECTURES[name].factors or kind == "yarn" or len(factors) != head_dim // 2:
        raise SourceError(
            f"the GGUF file holds {len(factors)} factors in {ROPE_FACTORS}, which infrs cannot apply to {name} "
            f"with heads of {head_dim} and rope.scaling.type {kind}"
        )
    context = values["context_length"]
    lists = {"short_factor": factors, "long_factor": factors}
    scaling = {"rope_type": "longrope", "factor": 1.0, "attention_factor": 1.0, **lists}
    return {"rope_scaling": scaling, "original_max_position_embeddings": context}
