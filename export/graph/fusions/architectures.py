"""Decide whether a model gets the fused graph.

A model outside `FAMILIES` gets the plain graph. So does one with a config that the fused graph does not support.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PretrainedConfig, PreTrainedModel

from infrs.bundle.states import LayerState, kv_states

from .attention import attributes, projections
from .cache import States
from .experts import is_experts, why_not_experts
from .families import FAMILIES
from .modules import output_layer, rotary_kinds, rotary_modules, rotary_table
from .recurrent.layers import recurrent_kind

_ROPE_TYPES = {"default", "linear", "llama3", "yarn", "dynamic", "longrope", "proportional"}

_ORDER = ("kv", "conv", "recurrent")  # of the states of a layer


def _rope(config: PretrainedConfig) -> dict[str, dict[str, Any]]:
    """Return the rotary settings by how they scale positions; "default" means unscaled. Types of layers can differ."""
    given = getattr(config, "rope_parameters", None) or {}
    by_layer = [parameters for parameters in given.values() if isinstance(parameters, dict)]
    return {str(parameters.get("rope_type", "default")): parameters for parameters in by_layer or [given]}


def longest_context(config: PretrainedConfig) -> int | None:
    """Return the longest context, in tokens, in which positions do not depend on the sequence's length.

    None if the config does not give one.
    """
    longest = int(getattr(config, "max_position_embeddings", None) or 0) or None
    original = _rope(config).get("longrope", {}).get("original_max_position_embeddings")
    return min(longest, int(original)) if longest and original else longest


def states(model: PreTrainedModel) -> States:
    """Return the states in float32 of a model for which `why_plain` is empty, layer by layer."""
    found: list[tuple[int, LayerState]] = []
    for module in model.modules():
        if projections(module):
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
    layers = [module for module in model.modules() if projections(module)]
    recurrent = [(module, kind) for module in model.modules() if (kind := recurrent_kind(module))]
    known = {int(module.layer_idx) for module in (*layers, *(module for module, _ in recurrent))}  # type: ignore[arg-type]
    if len(known) != model.config.num_hidden_layers:
        return f"{len(known)} layers of {model.config.num_hidden_layers} were recognised"
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
