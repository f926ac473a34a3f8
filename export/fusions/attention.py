"""Self-attention of the supported architectures as one packed product, GroupQueryAttention and the output product."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .cache import FusedCache
from .ops import AttentionAttributes, Linear

Forward = Callable[..., Any]


@dataclass(frozen=True)
class Projections:
    """Modules of a self-attention: `inputs` are stacked to one query, key and value product; `output` follows."""

    inputs: tuple[str, ...]
    output: str


_LAYOUTS = (
    Projections(("q_proj", "k_proj", "v_proj"), "o_proj"),
    Projections(("qkv_proj",), "o_proj"),
    Projections(("c_attn",), "c_proj"),
)


def projections(module: nn.Module) -> Projections | None:
    """How `module` projects, if it is a self-attention that can be fused."""
    for layout in _LAYOUTS:
        if all(hasattr(module, name) for name in (*layout.inputs, layout.output)):
            return layout
    return None


def attributes(module: Any) -> AttentionAttributes:
    """Read heads, scale, soft cap and window off a self-attention module and its config."""
    config = module.config
    head_dim = int(module.head_dim)
    if hasattr(module, "scaling"):
        scale = float(module.scaling)
    else:  # gpt2
        scale = head_dim**-0.5 if module.scale_attn_weights else 1.0
        if module.scale_attn_by_inverse_layer_idx:
            scale /= module.layer_idx + 1
    window = module.sliding_window if hasattr(module, "sliding_window") else getattr(config, "sliding_window", None)
    return AttentionAttributes(
        num_heads=int(config.num_attention_heads),
        num_kv_heads=int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads),
        head_dim=head_dim,
        scale=scale,
        softcap=float(getattr(module, "attn_logit_softcapping", None) or 0.0),
        window=int(window or 0),
    )


def _per_head(norm: nn.Module, x: Tensor, heads: int, head_dim: int) -> Tensor:
    """Normalise whole rows (olmo2) or each head apart (qwen3, gemma3), as the norm's own width says."""
    if norm.weight.shape[0] == heads * head_dim != head_dim:  # type: ignore[index, union-attr]
        return norm(x)  # type: ignore[no-any-return]
    split = torch.unflatten(x, -1, (heads, head_dim))
    return torch.flatten(norm(split), -2)


def fused_attention(module: Any, name: str) -> Forward:
    """A forward for the self-attention `module` called `name`, with the signature of the original."""
    layout = projections(module)
    if layout is None:
        raise ValueError(f"{name} ({type(module).__name__}) is not a self-attention that can be fused")
    shape = attributes(module)
    widths = [shape.num_heads * shape.head_dim, *[shape.num_kv_heads * shape.head_dim] * 2]
    inputs = [f"{name}.{part}" for part in layout.inputs]
    rotates = bool(getattr(module, "use_rope", True))  # smollm3 leaves some layers without positions
    clip = getattr(module.config, "clip_qkv", None)  # olmo
    output = getattr(module, layout.output)

    def forward(
        hidden_states: Tensor,
        *_: Any,
        past_key_values: FusedCache,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        **__: Any,
    ) -> tuple[Tensor, None]:
        packed = Linear.apply(hidden_states, f"{name}.qkv_proj", inputs, sum(widths))
        if clip is not None:
            packed = packed.clamp(-clip, clip)
        qkv: tuple[Tensor, Tensor | None, Tensor | None] = (packed, None, None)
        if hasattr(module, "q_norm"):
            query, key, value = packed.split(widths, dim=-1)
            query = _per_head(module.q_norm, query, shape.num_heads, shape.head_dim)
            key = _per_head(module.k_norm, key, shape.num_kv_heads, shape.head_dim)
            qkv = (query, key, value)
        rotary = position_embeddings if rotates else None
        return output(past_key_values.attend(int(module.layer_idx), qkv, rotary, shape)), None

    return forward
