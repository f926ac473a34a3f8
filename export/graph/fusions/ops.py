"""Operators for the exporter: the `symbolic` of each makes its node in the graph.

Their forwards give the tracer tensors of the right shape that depend on the inputs. The values are never used.
Nodes of the domain `infrs` are placeholders that name weights; `assemble` replaces them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch._C import Value
from torch.autograd import Function
from torch.onnx.symbolic_helper import _optional_input_placeholder_tensor

from ...recipes.domains import MICROSOFT, NATIVE

DOMAIN = "infrs"


class Graph(Protocol):
    """The part of the exporter's graph that symbolics use. Attributes have a suffix for their type: `_i`, `_f` etc."""

    def op(self, name: str, *inputs: Value, outputs: int = 1, **attributes: object) -> Value:
        """Add a node."""
        ...


@dataclass(frozen=True)
class AttentionAttributes:
    """The attributes of GroupQueryAttention. window: tokens that a query sees, itself included; 0: all.

    interleaved: the rotary embedding rotates neighbouring features instead of the two halves of a head.
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int
    scale: float
    softcap: float = 0.0
    window: int = 0
    interleaved: bool = False

    @property
    def widths(self) -> tuple[int, int, int]:
        """Return the widths of query, key and value of one token."""
        return self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim, self.num_kv_heads * self.head_dim


@dataclass(frozen=True)
class Groups:
    """The order of a weight's rows: `count` groups, each with parts of the given sizes.

    The graph has the first part of all groups, then the second and so on.
    """

    count: int
    sizes: tuple[int, ...]


def linear(
    x: Tensor, name: str, modules: Sequence[str], width: int, groups: Mapping[str, Groups] = MappingProxyType({})
) -> Tensor:
    """Multiply [..., K] by the weights of `modules`, stacked along their outputs: [..., width].

    groups: of the modules with rows in groups.
    """
    order = {module: (each.count, each.sizes) for module, each in groups.items()}
    return apply(_Linear, x, name, modules, width, json.dumps(order))


def embedding(ids: Tensor, name: str, width: int) -> Tensor:
    """Look up rows of the weight of the module `name`: ids [...] to [..., width]."""
    return apply(_Embedding, ids, name, width)


def experts(x: Tensor, weights: Tensor, indices: Tensor, name: str) -> Tensor:
    """Sum the outputs of the experts of the module `name` for x [T, H], by routing weights and indices [T, k]."""
    return apply(_Experts, x, weights, indices, name)


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Divide each row [..., D] by its root mean square and scale by weight [D]."""
    return apply(_RMSNorm, x, weight, epsilon)


def activation(x: Tensor, operator: str) -> Tensor:
    """Apply an element-wise operator of ONNX Runtime: QuickGelu (SiLU with alpha 1), FastGelu (tanh) or Gelu."""
    return apply(_Activation, x, operator)


def gated_silu(x: Tensor, width: int) -> Tensor:
    """Compute silu(gate) * up in one operator, from gate and up [..., 2 * width] to [..., width]."""
    return apply(_GatedSiLU, x, width)


def split_features(x: Tensor, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    """Split [..., sum(sizes)] into one [..., size] for each size."""
    return cast(tuple[Tensor, ...], x.split(tuple(sizes), dim=-1))  # type: ignore[no-untyped-call]


def reshape_features(x: Tensor, sizes: Sequence[int]) -> Tensor:
    """Reshape [B, S, ...] to [B, S, *sizes] with one Reshape; PyTorch's export would compute the shape."""
    return apply(_ReshapeFeatures, x, sizes)


def group_query_attention(
    qkv: Sequence[Tensor],
    past: tuple[Tensor, Tensor],
    lengths: tuple[Tensor, Tensor],
    rotary: tuple[Tensor, Tensor] | None,
    attributes: AttentionAttributes,
    *,
    sinks: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute causal attention over past and new tokens.

    qkv: packed [B, S, (heads + 2 kv_heads) * head_dim] alone; or query, key and value. past: key and value
    [B, kv_heads, capacity, head_dim]. lengths: seqlens_k int32 [B], total_sequence_length int32 []. rotary: cos and
    sin [positions, rotary_dim / 2], or None for no rotation. sinks: a score for each head that only adds to the sum of
    the softmax, float32 [heads], or None. Returns output [B, S, heads * head_dim] and the present
    key and value.
    """
    query, key, value = qkv if len(qkv) > 1 else (*qkv, None, None)
    outputs = apply(
        _GroupQueryAttention, query, key, value, *past, *lengths, *(rotary or (None, None)), sinks, attributes
    )
    return cast(tuple[Tensor, Tensor, Tensor], outputs)


def rotate(
    x: Tensor, positions: Tensor, rotary: tuple[Tensor, Tensor], attributes: AttentionAttributes, num_heads: int
) -> Tensor:
    """Rotate the heads of x [B, S, heads * head_dim] by their positions, int64 [B, S]. rotary: as for attention."""
    width = 2 * int(rotary[0].shape[-1])
    part = 0 if width == attributes.head_dim else width
    return apply(_RotaryEmbedding, x, positions, *rotary, num_heads, part, attributes.interleaved)


def apply(function: type[Function], *arguments: object) -> Tensor:
    """Apply an operator to the tensors that are traced."""
    return cast(Tensor, function.apply(*arguments))  # type: ignore[no-untyped-call]


def typed(value: Value, like: Value, keep: int | None = None, tail: Sequence[int] = ()) -> Value:
    """Give `value` the type of `like`, with its first `keep` sizes and `tail`: PyTorch does not infer it."""
    kind: Any = like.type()
    value.setType(kind.with_sizes([*kind.varyingSizes()[:keep], *tail]).with_dtype(torch.float32))
    return value


class _Linear(Function):
    @staticmethod
    def forward(  # noqa: PLR0917 (an autograd.Function takes its arguments one by one)
        ctx: object, x: Tensor, name: str, modules: Sequence[str], width: int, groups: str
    ) -> Tensor:
        return x[..., :1].expand(*x.shape[:-1], width).clone()

    @staticmethod
    def symbolic(  # noqa: PLR0917
        g: Graph, x: Value, name: str, modules: Sequence[str], width: int, groups: str
    ) -> Value:
        y = g.op(f"{DOMAIN}::Linear", x, weight_s=name, modules_s=" ".join(modules), groups_s=groups)
        return typed(y, x, -1, [width])


class _Experts(Function):
    @staticmethod
    def forward(ctx: object, x: Tensor, weights: Tensor, indices: Tensor, name: str) -> Tensor:
        return x.clone()

    @staticmethod
    def symbolic(g: Graph, x: Value, weights: Value, indices: Value, name: str) -> Value:
        return typed(g.op(f"{DOMAIN}::Experts", x, weights, indices, weight_s=name), x)


class _Embedding(Function):
    @staticmethod
    def forward(ctx: object, ids: Tensor, name: str, width: int) -> Tensor:
        return ids[..., None].expand(*ids.shape, width).float()

    @staticmethod
    def symbolic(g: Graph, ids: Value, name: str, width: int) -> Value:
        return typed(g.op(f"{DOMAIN}::Embedding", ids, weight_s=name, modules_s=name, groups_s="{}"), ids, tail=[width])


class _RMSNorm(Function):
    @staticmethod
    def forward(ctx: object, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        return x * weight

    @staticmethod
    def symbolic(g: Graph, x: Value, weight: Value, epsilon: float) -> Value:
        y = g.op("SimplifiedLayerNormalization", x, weight, axis_i=-1, epsilon_f=epsilon, stash_type_i=1)
        return typed(y, x)


class _Activation(Function):
    @staticmethod
    def forward(ctx: object, x: Tensor, operator: str) -> Tensor:
        return x.clone()

    @staticmethod
    def symbolic(g: Graph, x: Value, operator: str) -> Value:
        if operator == "QuickGelu":
            return typed(g.op(f"{MICROSOFT}::QuickGelu", x, alpha_f=1.0), x)
        return typed(g.op(f"{MICROSOFT}::{operator}", x), x)


class _GatedSiLU(Function):
    @staticmethod
    def forward(ctx: object, x: Tensor, width: int) -> Tensor:
        return x[..., :width].clone()

    @staticmethod
    def symbolic(g: Graph, x: Value, width: int) -> Value:
        return typed(g.op(f"{NATIVE}::GatedQuickGelu", x), x, -1, [width])


class _ReshapeFeatures(Function):
    @staticmethod
    def forward(ctx: object, x: Tensor, sizes: Sequence[int]) -> Tensor:
        return x.reshape(*x.shape[:2], *sizes).clone()

    @staticmethod
    def symbolic(g: Graph, x: Value, sizes: Sequence[int]) -> Value:
        y = g.op("Reshape", x, g.op("Constant", value_t=torch.tensor([0, -1, *sizes])))
        return typed(y, x, 2, sizes)


class _RotaryEmbedding(Function):
    @staticmethod
    def forward(  # noqa: PLR0917 (an autograd.Function takes its tensors one by one)
        ctx: object, x: Tensor, positions: Tensor, cos: Tensor, sin: Tensor, heads: int, part: int, interleaved: bool
    ) -> Tensor:
        return x.clone()

    @staticmethod
    def symbolic(  # noqa: PLR0917
        g: Graph, x: Value, positions: Value, cos: Value, sin: Value, heads: int, part: int, interleaved: bool
    ) -> Value:
        y = g.op(
            f"{MICROSOFT}::RotaryEmbedding",
            x,
            positions,
            cos,
            sin,
            interleaved_i=int(interleaved),
            num_heads_i=heads,
            rotary_embedding_dim_i=part,
        )
        return typed(y, x)


class _GroupQueryAttention(Function):
    @staticmethod
    def forward(  # noqa: PLR0917 (an autograd.Function takes its tensors one by one)
        ctx: object,
        query: Tensor,
        key: Tensor | None,
        value: Tensor | None,
        past_key: Tensor,
        past_value: Tensor,
        seqlens_k: Tensor,
        total_sequence_length: Tensor,
        cos: Tensor | None,
        sin: Tensor | None,
        sinks: Tensor | None,
        attributes: AttentionAttributes,
    ) -> tuple[Tensor, Tensor, Tensor]:
        return query[..., : attributes.widths[0]].clone(), past_key.clone(), past_value.clone()

    @staticmethod
    def symbolic(  # noqa: PLR0917
        g: Graph,
        query: Value,
        key: Value | None,
        value: Value | None,
        past_key: Value,
        past_value: Value,
        seqlens_k: Value,
        total_sequence_length: Value,
        cos: Value | None,
        sin: Value | None,
        sinks: Value | None,
        attributes: AttentionAttributes,
    ) -> tuple[Value, Value, Value]:
        rotary = [] if cos is None or sin is None else [cos, sin]
        does_rotate = bool(rotary)
        if sinks is not None:
            none = absent(g)
            rotary = [*(rotary or [none, none]), none, none, sinks]
        outputs = g.op(
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
            do_rotary_i=int(does_rotate),
            rotary_interleaved_i=int(attributes.interleaved),
            outputs=3,
        )
        output, present_key, present_value = cast(tuple[Value, Value, Value], outputs)
        typed(output, query, -1, attributes.widths[:1])
        return output, typed(present_key, past_key), typed(present_value, past_value)


def absent(g: Graph) -> Value:
    """Return the input of a node that omits it."""
    return cast(Value, _optional_input_placeholder_tensor(g))  # type: ignore[no-untyped-call]
