"""Replacement forwards for the modules of a model while it is traced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.activations import GELUActivation, GELUTanh, NewGELUActivation, SiLUActivation
from transformers.pytorch_utils import Conv1D

from .attention import fused_attention, projections
from .ops import Activation, Embedding, Linear, RMSNorm

Forward = Callable[..., Any]

_ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.SiLU: "QuickGelu",
    SiLUActivation: "QuickGelu",
    GELUTanh: "FastGelu",
    NewGELUActivation: "FastGelu",
    GELUActivation: "Gelu",
}


def _linear(module: nn.Module, name: str) -> Forward:
    width = int(module.nf if isinstance(module, Conv1D) else module.out_features)  # type: ignore[arg-type]
    return lambda x: Linear.apply(x, name, [name], width)


def _embedding(module: nn.Embedding, name: str) -> Forward:
    scale = float(getattr(module, "scalar_embed_scale", 1.0))  # gemma3
    if scale == 1.0:
        return lambda ids: Embedding.apply(ids, name, module.embedding_dim)
    return lambda ids: Embedding.apply(ids, name, module.embedding_dim) * scale


def _rms_norm(module: Any) -> Forward:
    epsilon = float(module.variance_epsilon if hasattr(module, "variance_epsilon") else module.eps)
    weight = module.weight
    if type(module).__name__.startswith("Gemma"):
        weight = (1.0 + weight.detach()).clone()
    return lambda x: RMSNorm.apply(x, weight, epsilon)


def _gated_mlp(module: Any, name: str) -> Forward:
    """act(gate) * up with gate and up from one product: llama's three products or phi3's packed one."""
    packed = hasattr(module, "gate_up_proj")
    width = module.gate_up_proj.out_features // 2 if packed else module.gate_proj.out_features
    inputs = [f"{name}.gate_up_proj"] if packed else [f"{name}.gate_proj", f"{name}.up_proj"]
    activation = module.activation_fn if packed else module.act_fn

    def forward(x: Tensor) -> Tensor:
        gate, up = Linear.apply(x, f"{name}.gate_up_proj", inputs, 2 * width).split([width, width], dim=-1)
        return module.down_proj(activation(gate) * up)  # type: ignore[no-any-return]

    return forward


def _is_gated_mlp(module: nn.Module) -> bool:
    return hasattr(module, "down_proj") and (hasattr(module, "gate_up_proj") or hasattr(module, "gate_proj"))


def replacements(model: PreTrainedModel) -> Iterator[tuple[nn.Module, Forward]]:
    """Every module of `model` whose forward changes while it is traced, with the forward to use."""
    for name, module in model.named_modules():
        if projections(module):
            yield module, fused_attention(module, name)
        elif _is_gated_mlp(module):
            yield module, _gated_mlp(module, name)
        elif isinstance(module, nn.Linear | Conv1D):
            yield module, _linear(module, name)
        elif isinstance(module, nn.Embedding):
            yield module, _embedding(module, name)
        elif type(module).__name__.endswith("RMSNorm"):
            yield module, _rms_norm(module)
        elif type(module) in _ACTIVATIONS:
            operator = _ACTIVATIONS[type(module)]
            yield module, lambda x, operator=operator: Activation.apply(x, operator)


def rotary_modules(model: PreTrainedModel) -> list[tuple[str, nn.Module]]:
    """The modules that make cos and sin of positions: none (gpt2), one, or two (gemma3: global and local layers)."""
    return [
        (name, module) for name, module in model.named_modules() if type(module).__name__.endswith("RotaryEmbedding")
    ]


def rotary_table(module: nn.Module, context_length: int) -> tuple[Tensor, Tensor]:
    """cos and sin of every position, float32 [context_length, rotary_dim / 2], by the module's own computation.

    Raises ValueError if the second half of a row does not repeat the first (interleaved rotary).
    """
    positions = torch.arange(context_length)[None]
    with torch.no_grad():
        cos, sin = (table[0] for table in module(torch.zeros(1, 1, 1), positions))
    half = cos.shape[-1] // 2
    if not all(torch.equal(table[:, :half], table[:, half:]) for table in (cos, sin)):
        raise ValueError("interleaved rotary embedding")
    return cos[:, :half].contiguous(), sin[:, :half].contiguous()
