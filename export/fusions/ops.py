"""Operators as the exporter sees them: each `symbolic` is the node that the graph gets.

The forwards only give the tracer tensors of the right shape that depend on their inputs; their values are never used.
Nodes of the domain `infrs` are placeholders that name weights; `assemble` replaces them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.onnx.symbolic_helper import _optional_input_placeholder_tensor as absent

DOMAIN = "infrs"
MICROSOFT = "com.microsoft"


def _sized(value: Any, like: Any, last: int) -> Any:
    """Give `value` the type of `like` with another last dimension: the exporter cannot infer foreign operators."""
    sizes = like.type().sizes() or like.type().varyingSizes()
    if sizes is not None:
        value.setType(like.type().with_sizes([*sizes[:-1], last]))
    return value


def _widen(x: Tensor, width: int) -> Tensor:
    return x[..., :1].expand(*x.shape[:-1], width).clone()


class Linear(torch.autograd.Function):
    """x [..., K] -> [..., N], the product with the weights of `modules`, stacked along N."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, name: str, modules: Sequence[str], width: int) -> Tensor:
        return _widen(x, width)

    @staticmethod
    def symbolic(g: Any, x: Any, name: str, modules: Sequence[str], width: int) -> Any:
        return _sized(g.op(f"{DOMAIN}::Linear", x, weight_s=name, modules_s=" ".join(modules)), x, width)


class Embedding(torch.autograd.Function):
    """ids [...] -> [..., K], rows of the weight of `module`."""

    @staticmethod
    def forward(ctx: Any, ids: Tensor, name: str, width: int) -> Tensor:
        return ids[..., None].expand(*ids.shape, width).float()

    @staticmethod
    def symbolic(g: Any, ids: Any, name: str, width: int) -> Any:
        y = g.op(f"{DOMAIN}::Embedding", ids, weight_s=name, modules_s=name)
        sizes = ids.type().sizes() or ids.type().varyingSizes()
        y.setType(ids.type().with_dtype(torch.float32).with_sizes([*sizes, width]))
        return y


class RMSNorm(torch.autograd.Function):
    """x [..., D] -> [..., D], scaled by weight [D]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        return x * weight

    @staticmethod
    def symbolic(g: Any, x: Any, weight: Any, epsilon: float) -> Any:
        y = g.op("SimplifiedLayerNormalization", x, weight, axis_i=-1, epsilon_f=epsilon, stash_type_i=1)
        y.setType(x.type())
        return y


class Activation(torch.autograd.Function):
    """An element-wise activation that ONNX Runtime has as one operator: QuickGelu (alpha 1 is SiLU), FastGelu, Gelu."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, operator: str) -> Tensor:
        return x.clone()

    @staticmethod
    def symbolic(g: Any, x: Any, operator: str) -> Any:
        attributes = {"alpha_f": 1.0} if operator == "QuickGelu" else {}
        y = g.op(f"{MICROSOFT}::{operator}", x, **attributes)
        y.setType(x.type())
        return y


@dataclass(frozen=True)
class AttentionAttributes:
    """Attributes of GroupQueryAttention. window: tokens that a query sees, itself included; 0 is all of them."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    scale: float
    softcap: float = 0.0
    window: int = 0


class GroupQueryAttention(torch.autograd.Function):
    """Causal attention over past and new tokens, with rotary embedding if `cos` is given.

    query [B, S, (heads + 2 kv_heads) * head_dim] with key and value None, or query, key, value apart. past_key and
    past_value [B, kv_heads, capacity, head_dim]. Returns output [B, S, heads * head_dim], present_key, present_value.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor | None,
        value: Tensor | None,
        past_key: Tensor,
        past_value: Tensor,
        seqlens_k: Tensor,
        total_sequence_length: Tensor,
        cos: Tensor | None,
        sin: Tensor | None,
        attributes: AttentionAttributes,
    ) -> tuple[Tensor, Tensor, Tensor]:
        output = query[..., : attributes.num_heads * attributes.head_dim].clone()
        return output, past_key.clone(), past_value.clone()

    @staticmethod
    def symbolic(
        g: Any,
        query: Any,
        key: Any,
        value: Any,
        past_key: Any,
        past_value: Any,
        seqlens_k: Any,
        total_sequence_length: Any,
        cos: Any,
        sin: Any,
        attributes: AttentionAttributes,
    ) -> Any:
        rotary = [] if cos is None else [cos, sin]
        output, present_key, present_value = g.op(
            f"{MICROSOFT}::GroupQueryAttention",
            query,
            key or absent(g),
            value or absent(g),
            past_key,
            past_value,
            seqlens_k,
            total_sequence_length,
            *rotary,
            num_heads_i=attributes.num_heads,
            kv_num_heads_i=attributes.num_kv_heads,
            scale_f=attributes.scale,
            softcap_f=attributes.softcap,
            local_window_size_i=attributes.window or -1,
            do_rotary_i=int(bool(rotary)),
            outputs=3,
        )
        _sized(output, query, attributes.num_heads * attributes.head_dim)
        present_key.setType(past_key.type())
        present_value.setType(past_value.type())
        return output, present_key, present_value
