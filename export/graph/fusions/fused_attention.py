"""Self-attention as one packed product, GroupQueryAttention and the output product."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from .attention import Forward, Module, attributes, groups_of, has_query_gate, projections
from .families import FAMILIES
from .ops import AttentionAttributes, Groups, linear, reshape_features, rotate, split_features
from .traced_states import FusedCache

# The names of the norms of query, key and value.
_NORMS = (("q_norm", "q_layernorm", "query_layernorm"), ("k_norm", "k_layernorm", "key_layernorm"), ("v_norm",))


def fused_attention(module: Module, name: str) -> Forward:
    """Return a forward for the self-attention `module` named `name`, with the signature of the original."""
    layout, shape = projections(module), attributes(module)
    assert layout  # noqa: S101 (attributes has checked)
    inputs = [f"{name}.{part}" for part in layout.inputs]
    order = groups_of(module)
    is_gated = has_query_gate(module)  # qwen3_5: a gate behind the query of each head, in the same product
    if is_gated:
        order = Groups(shape.num_heads, (shape.head_dim,) * 2)
    groups = {inputs[0]: order} if order else {}
    widths = [*shape.widths[:1], *(shape.widths[:1] if is_gated else ()), *shape.widths[1 : layout.num_parts]]
    family = FAMILIES[module.config.model_type]
    norms = [next((getattr(module, each) for each in names if hasattr(module, each)), None) for names in _NORMS]
    scale = _query_scale(module)
    is_packed = layout.num_parts == 3 and not any(norms) and not scale and not is_gated
    rotates = _rotates(module, shape)
    sinks, gate = getattr(module, "sinks", None), getattr(module, "gate_proj", None)  # gpt_oss, afmoe
    clip = module.config.clip_qkv if family.clips else None
    output = getattr(module, layout.output)

    def parts(separate: list[Tensor], rotary: tuple[Tensor, Tensor] | None, positions: Tensor | None) -> list[Tensor]:
        """Return query, key and value, or the query alone; normalised, and rotated with `rotary`."""
        if layout.num_parts == 2:
            separate.append(separate[1])
        if rotary is not None and positions is not None:
            for part, heads in enumerate((shape.num_heads, shape.num_kv_heads)):
                separate[part] = rotate(separate[part], positions, rotary, shape, heads)
        for part, x in enumerate(separate):
            if (norm := norms[part]) is not None:
                separate[part] = _normalise(norm, x, shape.widths[part], shape.head_dim)
        if scale and positions is not None:
            separate[0] = separate[0] * scale(positions)
        return separate

    def forward(
        hidden_states: Tensor,
        *_: object,
        cache: FusedCache | None = None,
        layer_past: FusedCache | None = None,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        position_ids: Tensor | None = None,
        **__: object,
    ) -> tuple[Tensor, None]:
        past = cache or layer_past  # gpt_neox and falcon use the second name
        assert past  # noqa: S101 (the traced forward gives it)
        rotary = position_embeddings if rotates else None
        early, late = (rotary, None) if family.norm_after_rotary else (None, rotary)
        packed = linear(hidden_states, f"{name}.qkv_proj", inputs, sum(widths), groups)
        separate = [packed] if is_packed else list(split_features(packed, widths))
        opening = separate.pop(1) if is_gated else None if gate is None else gate(hidden_states)
        qkv = separate if is_packed else parts(separate, early, position_ids)
        if clip is not None:
            qkv = [x.clamp(-clip, clip) for x in qkv]
        if layout.num_parts == 1:
            qkv += past.shared[module.layer_type]
        elif getattr(module, "store_full_length_kv", False):
            past.shared[module.layer_type] = qkv[1:]
        attended = past.attend(int(module.layer_idx), qkv, late, shape, sinks=sinks)
        if opening is not None:
            attended = attended * opening.sigmoid()
        return output(attended), None

    return forward


def _normalise(norm: Module, x: Tensor, width: int, head_dim: int) -> Tensor:
    """Normalise whole rows (olmo2) or each head separately (qwen3, gemma3), by the width of the norm."""
    weight = getattr(norm, "weight", None)  # gemma4's norm of values has none
    if weight is not None and tuple(weight.shape) == (width,):
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
