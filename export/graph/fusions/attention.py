"""The self-attention modules of transformers: their projections, and their attributes as the operator has them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from .families import FAMILIES
from .ops import AttentionAttributes, Groups

Forward = Callable[..., Any]
Module = Any  # transformers' modules share attributes by convention, not by a class that declares them


@dataclass(frozen=True)
class Projections:
    """The modules of a self-attention. `inputs` form one product for query, key and value; `output` follows.

    num_parts: 3; 2 if the keys are the values too; 1 if the keys and values are those of an earlier layer.
    """

    inputs: tuple[str, ...]
    output: str
    num_parts: int = 3


_BY_GROUP = "query_key_value"  # a packed product with the queries, the key and the value of a group side by side
_LAYOUTS = (
    Projections(("q_proj", "k_proj", "v_proj"), "o_proj"),
    Projections(("q_proj", "k_proj", "v_proj"), "dense"),
    Projections(("q_proj", "k_proj", "v_proj"), "out_proj"),
    Projections(("q_proj", "k_proj"), "o_proj", 2),  # gemma4
    Projections(("q_proj",), "o_proj", 1),  # gemma4
    Projections(("qkv_proj",), "o_proj"),
    Projections(("c_attn",), "c_proj"),
    Projections((_BY_GROUP,), "dense"),  # gpt_neox, falcon
)


def projections(module: Module) -> Projections | None:
    """Return the projections of `module`; None for latent and linear attention, and for what cannot be fused."""
    if is_latent(module) or hasattr(module, "A_log"):  # the second is a linear attention (olmo_hybrid)
        return None
    for layout in _LAYOUTS:
        parts = [getattr(module, name, None) for name in (*layout.inputs, layout.output)]
        if all(map(is_product, parts)):
            return layout
    return None


def is_latent(module: object) -> bool:
    """Return whether `module` is a multi-head latent attention that can be fused."""
    return all(is_product(getattr(module, name, None)) for name in ("kv_a_proj_with_mqa", "kv_b_proj", "o_proj"))


def is_attention(module: Module) -> bool:
    """Return whether `module` is a self-attention that can be fused."""
    return is_latent(module) or projections(module) is not None


def is_product(module: object) -> bool:
    """Return whether `module` is a linear layer. A subclass may compute something else; falcon's does not."""
    return type(module) in (nn.Linear, Conv1D) or type(module).__name__ == "FalconLinear"


def out_features(module: nn.Linear | Conv1D) -> int:
    """Return the output width of a projection."""
    return module.nf if isinstance(module, Conv1D) else module.out_features


def attributes(module: Module) -> AttentionAttributes:
    """Read heads, scale, soft cap and window from a self-attention module and its config.

    Raises ValueError if it is not a self-attention that can be fused.
    """
    if is_latent(module):
        return _latent_attributes(module)
    layout = projections(module)
    if layout is None:
        raise ValueError(f"{type(module).__name__} is not a self-attention that can be fused")
    config = module.config
    head_dim = int(module.head_size if hasattr(module, "head_size") else module.head_dim)
    num_heads = int(config.num_attention_heads)
    if hasattr(module, "scaling"):
        scale = float(module.scaling)
    elif hasattr(module, "inv_norm_factor"):  # falcon
        scale = float(module.inv_norm_factor)
    else:  # gpt2
        scale = head_dim**-0.5 if module.scale_attn_weights else 1.0
        if module.scale_attn_by_inverse_layer_idx:
            scale /= module.layer_idx + 1
    scale *= float(getattr(module, "key_multiplier", 1.0))  # falcon_h1
    # Only keys that the model's own attention reads: configs have unused ones.
    family = FAMILIES[config.model_type]
    window = config.sliding_window if family.window_in_config else getattr(module, "sliding_window", None)
    if not getattr(module, "is_sliding", True):
        window = None
    softcap = module.attn_logit_softcapping if family.softcap else None
    return AttentionAttributes(
        num_heads=num_heads,
        num_kv_heads=_num_kv_heads(module, layout, num_heads, head_dim),
        head_dim=head_dim,
        scale=scale,
        softcap=float(softcap or 0.0),
        window=int(window or 0),
        interleaved=family.interleaved,
    )


def _latent_attributes(module: Module) -> AttentionAttributes:
    interleaved = getattr(module.config, "rope_interleave", FAMILIES[module.config.model_type].interleaved)
    return AttentionAttributes(
        num_heads=int(module.num_heads),
        num_kv_heads=int(module.num_heads),
        head_dim=max(int(module.qk_head_dim), int(module.v_head_dim)),
        scale=float(module.scaling),
        interleaved=bool(interleaved),
    )


def has_query_gate(module: Module) -> bool:
    """Return whether the product of the queries gives each head a query and a gate (qwen3_next)."""
    query = getattr(module, "q_proj", None)
    return query is not None and out_features(query) == 2 * int(module.config.num_attention_heads) * int(
        module.head_dim
    )


def _num_kv_heads(module: Module, layout: Projections, num_heads: int, head_dim: int) -> int:
    if layout.num_parts == 1:
        return num_heads // int(module.num_key_value_groups)
    if "k_proj" in layout.inputs:
        return out_features(module.k_proj) // head_dim
    return (out_features(getattr(module, layout.inputs[0])) // head_dim - num_heads) // 2


def groups_of(module: Module) -> Groups | None:
    """Return the order of the rows of a packed product by groups; None if they are in order."""
    layout = projections(module)
    if layout is None or layout.inputs != (_BY_GROUP,):
        return None
    shape = attributes(module)
    queries = shape.num_heads // shape.num_kv_heads * shape.head_dim
    return Groups(shape.num_kv_heads, (queries, shape.head_dim, shape.head_dim))
