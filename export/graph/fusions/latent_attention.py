"""Multi-head latent attention (DeepSeek V2) as ordinary attention: keys and values of every head, from the latent.

Past tokens keep whole keys and values, not the latent. A key is a part that rotates, the same for all heads, and a part
from the latent. GroupQueryAttention rotates the first features of a head, so those that rotate come first. Keys and
values have the wider of both widths; zeros fill the other.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .attention import Forward, Module, attributes
from .ops import Groups, linear, reshape_features, split_features
from .traced_states import FusedCache


def latent_attention(module: Module, name: str) -> Forward:
    """Return a forward for the self-attention `module` named `name`, with the signature of the original."""
    shape, heads = attributes(module), int(module.num_heads)
    rank, rotary_width, value_width = int(module.kv_lora_rank), int(module.qk_rope_head_dim), int(module.v_head_dim)
    fixed_width = int(module.qk_nope_head_dim)  # of the part of a query or key that does not rotate
    query_name = f"{name}.{'q_b_proj' if module.q_proj is None else 'q_proj'}"
    queries, values = [heads * fixed_width, heads * rotary_width], [heads * fixed_width, heads * value_width]
    query_order = {query_name: Groups(heads, (fixed_width, rotary_width))}
    latent_order = {f"{name}.kv_b_proj": Groups(heads, (fixed_width, value_width))}
    first_name, first_width = (
        (f"{name}.q_a_proj", int(module.q_lora_rank)) if module.q_proj is None else (query_name, sum(queries))
    )
    each_head = torch.zeros(heads, dtype=torch.int64)

    def widened(heads_of_tokens: Tensor) -> Tensor:
        """Return [B, S, heads, width] with zeros up to the width of a head, as [B, S, heads * head_dim]."""
        missing = shape.head_dim - heads_of_tokens.shape[-1]
        wide = functional.pad(heads_of_tokens, (0, missing)) if missing else heads_of_tokens
        return reshape_features(wide, [heads * shape.head_dim])

    def forward(
        hidden_states: Tensor,
        *_: object,
        cache: FusedCache,
        position_embeddings: tuple[Tensor, Tensor],
        **__: object,
    ) -> tuple[Tensor, None]:
        modules = [first_name, f"{name}.kv_a_proj_with_mqa"]
        packed = linear(
            hidden_states,
            f"{name}.qkv_a_proj",
            modules,
            first_width + rank + rotary_width,
            query_order if first_name == query_name else {},
        )
        query, latent, rotates = split_features(packed, [first_width, rank, rotary_width])
        if first_name != query_name:
            query = linear(module.q_a_layernorm(query), query_name, [query_name], sum(queries), query_order)
        latent = module.kv_a_layernorm(latent)
        both = linear(latent, f"{name}.kv_b_proj", [f"{name}.kv_b_proj"], sum(values), latent_order)
        fixed, value = split_features(both, values)
        shared = reshape_features(rotates, [1, rotary_width]).index_select(2, each_head)
        key = torch.cat([shared, reshape_features(fixed, [heads, fixed_width])], dim=-1)
        fixed, rotates = split_features(query, queries)
        parts = [reshape_features(rotates, [heads, rotary_width]), reshape_features(fixed, [heads, fixed_width])]
        qkv = [torch.cat(parts, dim=-1), key, reshape_features(value, [heads, value_width])]
        attended = cache.attend(int(module.layer_idx), [widened(each) for each in qkv], position_embeddings, shape)
        if value_width < shape.head_dim:
            attended = reshape_features(attended, [heads, shape.head_dim])[..., :value_width]
            attended = reshape_features(attended, [heads * value_width])
        return module.o_proj(attended), None

    return forward
