"""Self-attention as one packed product, GroupQueryAttention and the output product."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from .cache import FusedCache
from .families import FAMILIES
from .ops import AttentionAttributes, linear, reshape_features, rotate, split_features

Forward = Callable[..., Any]
Module = Any  # transformers' modules share attributes by convention, not by a class that declares them


@dataclass(frozen=True)
class Projections:
    """The modules of a self-attention. `inputs` form one product for query, key and value; `output` follows."""

    inputs: tuple[str, ...]
    output: str


_LAYOUTS = (
    Projections(("q_proj", "k_proj", "v_proj"), "o_proj"),
    Projections(("q_proj", "k_proj", "v_proj"), "dense"),
    Projections(("qkv_proj",), "o_proj"),
    Projections(("c_attn",), "c_proj"),
)


def projections(module: Module) -> Projections | None:
    """Return the projections of `module`, or None if it is not a self-attention that can be fused."""
    for layout in _LAYOUTS:
        parts = [getattr(module, name, None) for name in (*layout.inputs, layout.output)]
        if all(type(part) in (nn.Linear, Conv1D) for part in parts):  # a subclass may compute something else
            return layout
    return None


def out_features(module: nn.Linear | Conv1D) -> int:
    """Return the output width of a projection."""
    return module.nf if isinstance(module, Conv1D) else module.out_features


def attributes(module: Module) -> AttentionAttributes:
    """Read heads, scale, soft cap and window from a self-attention module and its config.

    Raises ValueError if it is not a self-attention that can be fused.
    """
    layout = projections(module)
    if layout is None:
        raise ValueError(f"{type(module).__name__} is not a self-attention that can be fused")
    config = module.config
    head_dim, num_heads = int(module.head_dim), int(config.num_attention_heads)
    width = sum(out_features(getattr(module, name)) for name in layout.inputs)
    if hasattr(module, "scaling"):
        scale = float(module.scaling)
    else:  # gpt2
        scale = head_dim**-0.5 if module.scale_attn_weights else 1.0
        if module.scale_attn_by_inverse_layer_idx:
            scale /= module.layer_idx + 1
    # Only keys that the model's own attention reads: configs have unused ones.
    family = FAMILIES[config.model_type]
    window = config.sliding_window if family.window_in_config else getattr(module, "sliding_window", None)
    if not getattr(module, "is_sliding", True):
        window = None
    softcap = module.attn_logit_softcapping if family.softcap else None
    return AttentionAttributes(
        num_heads=num_heads,
        num_kv_heads=(width // head_dim - num_heads) // 2,
        head_dim=head_dim,
        scale=scale,
        softcap=float(softcap or 0.0),
        window=int(window or 0),
        interleaved=family.interleaved,
    )


_NORMS = (("q_norm", "k_norm"), ("q_layernorm", "k_layernorm"), ("query_layernorm", "key_layernorm"))


def _norms(module: Module) -> tuple[Module, Module] | None:
    """Return the norms of query and key, if the module has them."""
    return next(((getattr(module, q), getattr(module, k)) for q, k in _NORMS if hasattr(module, q)), None)


def _normalise(norm: Module, x: Tensor, width: int, head_dim: int) -> Tensor:
    """Normalise whole rows (olmo2) or each head separately (qwen3, gemma3), by the width of the norm."""
    if not hasattr(norm, "norms") and tuple(norm.weight.shape) == (width,):
        return norm(x)  # type: ignore[no-any-return]
    heads = reshape_features(x, [width // head_dim, head_dim])
    if hasattr(norm, "norms"):  # one for each head (stablelm)
        weight = torch.stack([each.weight.detach() for each in norm.norms])
        heads = functional.layer_norm(heads, (head_dim,), eps=norm.norms[0].eps) * weight
    else:
        heads = norm(heads)
    return reshape_features(heads, [width])


def _rotates(module: Module, shape: AttentionAttributes) -> bool:
    """Return whether a layer rotates query and key."""
    config = module.config
    if FAMILIES[config.model_type].rotates_windows and config.sliding_window is not None:
        return bool(shape.window)
    return bool(getattr(module, "use_rope", True))  # smollm3


def _query_scale(module: Module) -> Callable[[Tensor], Tensor] | None:
    """Return the scale of queries by their positions, int64 [batch, new], if the model has one (ministral3)."""
    rope = getattr(module.config, "rope_parameters", None) or {}
    beta, original = rope.get("llama_4_scaling_beta"), rope.get("original_max_position_embeddings")
    if not beta or not original:
        return None
    return lambda positions: (1 + beta * torch.log(1 + torch.floor(positions / original)))[..., None]


def fused_attention(module: Module, name: str) -> Forward:
    """Return a forward for the self-attention `module` named `name`, with the signature of the original."""
    layout, shape = projections(module), attributes(module)
    assert layout  # noqa: S101 (attributes has checked)
    inputs = [f"{name}.{part}" for part in layout.inputs]
    family = FAMILIES[module.config.model_type]
    norms, scale = _norms(module), _query_scale(module)
    rotates = _rotates(module, shape)
    sinks, gate = getattr(module, "sinks", None), getattr(module, "gate_proj", None)  # gpt_oss, afmoe
    clip = module.config.clip_qkv if family.clips else None
    output = getattr(module, layout.output)

    def forward(
        hidden_states: Tensor,
        *_: object,
        cache: FusedCache,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        position_ids: Tensor | None = None,
        **__: object,
    ) -> tuple[Tensor, None]:
        rotary = position_embeddings if rotates else None
        packed = linear(hidden_states, f"{name}.qkv_proj", inputs, sum(shape.widths))
        qkv: tuple[Tensor, ...] = (packed,)
        if norms or scale:
            query, key, value = split_features(packed, shape.widths)
            if family.norm_after_rotary and rotary and position_ids is not None:
                query = rotate(query, position_ids, rotary, shape, shape.num_heads)
                key = rotate(key, position_ids, rotary, shape, shape.num_kv_heads)
                rotary = None
            if norms:
                query = _normalise(norms[0], query, shape.widths[0], shape.head_dim)
                key = _normalise(norms[1], key, shape.widths[1], shape.head_dim)
            if scale and position_ids is not None:
                query = query * scale(position_ids)
            qkv = (query, key, value)
        if clip is not None:
            qkv = tuple(x.clamp(-clip, clip) for x in qkv)
        attended = cache.attend(int(module.layer_idx), qkv, rotary, shape, sinks=sinks)
        if gate is not None:
            attended = attended * gate(hidden_states).sigmoid()
        return output(attended), None

    return forward
