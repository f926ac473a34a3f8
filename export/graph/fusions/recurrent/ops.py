"""Operators of layers with states of a fixed size. As in `ops`, only the shapes of their forwards count.

Each takes a past state, float32 [B, *shape], and gives the present one, which is bound to the same memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch._C import Value
from torch.autograd import Function

from ....recipes.domains import MICROSOFT, NATIVE
from ..ops import Graph, absent, apply, typed


@dataclass(frozen=True)
class Recurrence:
    """The heads of a linear attention: value heads share key heads in order.

    rule: `gated_delta` or `gated`, as ONNX Runtime's LinearAttention names them. scale: of the result.
    """

    key_heads: int
    value_heads: int
    rule: str
    scale: float


def short_convolution(  # noqa: PLR0917
    x: Tensor, weight: Tensor, bias: Tensor | None, past: Tensor, active: Tensor, activation: str
) -> tuple[Tensor, Tensor]:
    """Convolve each channel of x [B, S, C] with its last inputs.

    weight: [C, 1, K]. bias: [C] or None. past: the inputs before x, [B, K - 1, C]. active: [B, 1, 1], 0 for a row that
    keeps its past. activation: `silu` or `none`. Returns y [B, S, C] and the present inputs.
    """
    return cast(tuple[Tensor, Tensor], apply(_ShortConvolution, x, weight, bias, past, active, activation))


def linear_attention(
    qkv: tuple[Tensor, Tensor, Tensor], decay: Tensor, beta: Tensor | None, past: Tensor, recurrence: Recurrence
) -> tuple[Tensor, Tensor]:
    """Update a matrix for each value head with each token, and read it with the query.

    qkv: [B, S, key_heads * key_dim] twice, and [B, S, value_heads * value_dim]. decay: the logarithm, [B, S,
    value_heads]. beta: the share of the new value, in the same shape, or None. past: [B, value_heads, key_dim,
    value_dim]. Returns y [B, S, value_heads * value_dim] and the present matrices.
    """
    return cast(tuple[Tensor, Tensor], apply(_LinearAttention, *qkv, past, decay, beta, recurrence))


def softplus(x: Tensor) -> Tensor:
    """Compute log(1 + e**x). ONNX Runtime's own rounds by the place of a number in its tensor."""
    return apply(_Softplus, x)


class _ShortConvolution(Function):
    @staticmethod
    def forward(  # noqa: PLR0917 (an autograd.Function takes its tensors one by one)
        ctx: object, x: Tensor, weight: Tensor, bias: Tensor | None, past: Tensor, active: Tensor, activation: str
    ) -> tuple[Tensor, Tensor]:
        return x.clone(), past.clone()

    @staticmethod
    def symbolic(  # noqa: PLR0917
        g: Graph, x: Value, weight: Value, bias: Value | None, past: Value, active: Value, activation: str
    ) -> tuple[Value, Value]:
        outputs = g.op(
            f"{NATIVE}::ShortConvolution",
            x,
            weight,
            bias or absent(g),
            past,
            active,
            activation_s=activation,
            outputs=2,
        )
        y, present = cast(tuple[Value, Value], outputs)
        return typed(y, x), typed(present, past)


class _LinearAttention(Function):
    @staticmethod
    def forward(  # noqa: PLR0917
        ctx: object,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        past: Tensor,
        decay: Tensor,
        beta: Tensor | None,
        recurrence: Recurrence,
    ) -> tuple[Tensor, Tensor]:
        return value.clone(), past.clone()

    @staticmethod
    def symbolic(  # noqa: PLR0917
        g: Graph,
        query: Value,
        key: Value,
        value: Value,
        past: Value,
        decay: Value,
        beta: Value | None,
        recurrence: Recurrence,
    ) -> tuple[Value, Value]:
        outputs = g.op(
            f"{MICROSOFT}::LinearAttention",
            query,
            key,
            value,
            past,
            decay,
            *([] if beta is None else [beta]),
            q_num_heads_i=recurrence.key_heads,
            kv_num_heads_i=recurrence.value_heads,
            update_rule_s=recurrence.rule,
            scale_f=recurrence.scale,
            outputs=2,
        )
        y, present = cast(tuple[Value, Value], outputs)
        return typed(y, value), typed(present, past)


class _Softplus(Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def symbolic(g: Graph, x: Value) -> Value:
        return typed(g.op(f"{NATIVE}::Softplus", x), x)


def ones(width: int, value: float = 1.0) -> Tensor:
    """Return the weights [width] of a norm, all of one value."""
    return torch.full((width,), value)
