"""Decide whether a model gets the fused graph.

A model outside `FAMILIES` gets the plain graph. So does one with a config that the fused graph does not support.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel

from infrs.bundle.manifest import RopeFactors
from infrs.bundle.states import LayerState, kv_states

from ...sources.rope_tables import ORIGINAL
from .attention import attributes, is_attention
from .experts import is_experts, why_not_experts
from .families import FAMILIES
from .modules import output_layer, rotary_kinds, rotary_modules, rotary_table
from .recurrent.layers import recurrent_kind
from .traced_states import States

_ROPE_TYPES = {"default", "linear", "llama3", "yarn", "dynamic", "longrope", "proportional"}

_ORDER = ("kv", "conv", "recurrent")  # of the states of a layer


def _rope(config: PretrainedConfig) -> dict[str, dict[str, Any]]:
    """Return the rotary settings by how they scale positions; "default" means unscaled. Types of layers can differ."""
    given = getattr(config, "rope_parameters", None) or {}
    by_layer = [parameters for parameters in given.values() if isinstance(parameters, dict)]
    return {str(parameters.get("rope_type", "default")): parameters for parameters in by_layer or [given]}


def longest_context(config: PretrainedConfig) -> int | None:
    """Return the longest context that a bundle can serve, in tokens; None if the config does not give one."""
    return int(getattr(config, "max_position_embeddings", None) or 0) or None


def original_context(config: PretrainedConfig) -> int | None:
    """Return the context, in tokens, up to which LongRoPE's short factors hold; None if no long ones follow."""
    longest, original = longest_context(config), _rope(config).get("longrope", {}).get(ORIGINAL)
    return int(original) if original and (longest is None or original < longest) else None


def default_context(config: PretrainedConfig) -> int | None:
    """Return the context of a bundle without a choice, in tokens; None if the config does not give one."""
    return original_context(config) or longest_context(config)


def rope_factors(config: PretrainedConfig, context_length: int) -> RopeFactors | None:
    """Return which factors of LongRoPE a bundle of this context has at all lengths; None without a choice."""
    original = original_context(config)
    return None if original is None else "long" if context_length > original else "short"


def fix_rope_factors(model: PreTrainedModel, context_length: int) -> None:
    """Give `model` the factors of LongRoPE that a bundle of this context has, at all lengths. The first call decides.

    transformers chooses by the length of a sequence, and keeps the keys that it rotated with the other factors.
    """
    if (factors := rope_factors(model.config, context_length)) is None:
        return
    last = (original_context(model.config) or 0) if factors == "long" else 0
    for module in rotary_modules(model):
        kinds: Any = module.rope_type
        for layer_type in rotary_kinds(module):
            if (kinds[layer_type] if layer_type else kinds) == "longrope":
                with torch.no_grad():  # sets the frequencies for a sequence that ends at this position
                    module(torch.zeros(1, 1, 1), torch.tensor([[last]]), *([layer_type] if layer_type else []))
                fixed: Any = {**kinds, layer_type: "default"} if layer_type else "default"  # never set them again
                module.rope_type = kinds = fixed


def states(model: PreTrainedModel) -> States:
    """Return the states in float32 of a model for which `why_plain` is empty, layer by layer."""
    found: list[tuple[int, LayerState]] = []
    for module in model.modules():
        if is_attention(module):
            shape = attributes(module)
            kept: Sequence[LayerState] = kv_states([(shape.num_kv_heads, shape.head_dim)], "float32")
        elif kind := recurrent_kind(module):
            kept = kind.states(module)
        else:
            continue
        found += [(int(module.layer_idx), state) for state in kept]  # type: ignore[arg-type]
    found.sort(key=lambda each: (each[0], _ORDER.index(each[1].kind)))
    return {(layer, state.kind): state for layer, state in found}


def why_plain(model: PreTrainedModel) -> str:
    """Return why `model` cannot have the fused graph; empty if it can."""
    config: Any = model.config
    family = FAMILIES.get(config.model_type)
    if family is None or family.architecture != type(model).__name__:
        return f"{config.model_type} ({type(model).__name__}) is not among the fused architectures"
    if unknown := _rope(config).keys() - _ROPE_TYPES:
        return f"rope type {' and '.join(sorted(unknown))} is not supported by the fused graph"
    if getattr(config, "use_bidirectional_attention", False) or getattr(config, "add_cross_attention", False):
        return "its attention is not plainly causal"
    if getattr(config, "alibi", False):
        return "its attention adds biases by distance (ALiBi)"
    return _why_not_attention(model) or _why_not_tables(model) or _why_not_experts(model)


def _why_not_attention(model: PreTrainedModel) -> str:
    layers = [module for module in model.modules() if is_attention(module)]
    recurrent = [(module, kind) for module in model.modules() if (kind := recurrent_kind(module))]
    known = {int(module.layer_idx) for module in (*layers, *(module for module, _ in recurrent))}  # type: ignore[arg-type]
    stateful = model.config.num_hidden_layers - list(getattr(model.config, "layer_types", None) or ()).count("mlp")
    if len(known) != stateful:
        return f"{len(known)} of {stateful} layers with a state were recognised"
    if reason := next(filter(None, (kind.why_not(module) for module, kind in recurrent)), ""):
        return reason
    for head_dim in sorted({attributes(layer).head_dim for layer in layers}):
        if head_dim % 8:
            return f"head width {head_dim} is not a multiple of 8"
    return ""


def _why_not_experts(model: PreTrainedModel) -> str:
    return next(filter(None, (why_not_experts(module) for module in model.modules() if is_experts(module))), "")


def _why_not_tables(model: PreTrainedModel) -> str:
    try:
        output_layer(model)
        for module in rotary_modules(model):
            for layer_type in rotary_kinds(module):
                rotary_table(module, 4, layer_type)
    except ValueError as error:
        return f"{error} is not supported by the fused graph"
    return ""
