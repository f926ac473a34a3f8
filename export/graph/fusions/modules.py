"""Replacement forwards for the modules of a model while it is traced."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import partial
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.activations import GELUActivation, GELUTanh, NewGELUActivation, SiLUActivation
from transformers.pytorch_utils import Conv1D

from .attention import Forward, Module, is_latent, is_product, out_features, projections
from .experts import experts_forward, is_experts
from .families import FAMILIES
from .fused_attention import fused_attention
from .latent_attention import latent_attention
from .ops import activation, embedding, gated_silu, linear, rms_norm, split_features
from .recurrent.layers import recurrent_kind

_ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.SiLU: "QuickGelu",
    SiLUActivation: "QuickGelu",
    GELUTanh: "FastGelu",
    NewGELUActivation: "FastGelu",
    GELUActivation: "Gelu",
}
# The products of gated MLPs. The last two layouts are those of lfm2 and of granitemoehybrid.
_GATED = (
    ("gate_up_proj", "down_proj"),
    ("gate_proj", "up_proj", "down_proj"),
    ("w1", "w3", "w2"),
    ("input_linear", "output_linear"),
)


def _linear(module: nn.Linear | Conv1D, name: str) -> Forward:
    width = out_features(module)
    return lambda x: linear(x, name, [name], width)


def _embedding(module: nn.Embedding, name: str) -> Forward:
    scale = float(getattr(module, "embed_scale", 1.0))  # gemma3
    if scale == 1.0:
        return lambda ids: embedding(ids, name, module.embedding_dim)
    return lambda ids: embedding(ids, name, module.embedding_dim) * scale


def _rms_norm(module: Module, *, adds_one: bool) -> Forward:
    epsilon = float(module.variance_epsilon if hasattr(module, "variance_epsilon") else module.eps)
    weight = getattr(module, "weight", None)
    if weight is not None and adds_one:
        weight = 1.0 + weight.detach()

    def forward(x: Tensor) -> Tensor:
        return rms_norm(x, torch.ones(x.shape[-1]) if weight is None else weight, epsilon)

    return forward


def _cohere_layer_norm(module: Module) -> Forward:
    """Return a forward for cohere's layer norm without bias. Its weight can be [heads, head_dim]."""
    weight, epsilon = module.weight, float(module.variance_epsilon)
    if weight.ndim == 1:
        return lambda x: functional.layer_norm(x, weight.shape, weight, eps=epsilon)
    return lambda x: functional.layer_norm(x, weight.shape[-1:], eps=epsilon) * weight


def _bare_layer_norm(module: Module) -> Forward:
    """Return a forward for olmo's layer norm without weights; it omits the conversions to and from float32."""
    return lambda x: functional.layer_norm(x, module.normalized_shape, eps=1e-5)


def _is_narrow(module: nn.Module) -> bool:
    """Return whether the input of a product has less than a block of 32 features. It stays in float32 (gemma3n)."""
    return isinstance(module, nn.Linear) and module.in_features < 32


def _gated_mlp(module: Module, name: str) -> Forward:
    """Return a forward for act(gate) * up, with one product for both: llama's two stacked, or phi3's packed one."""
    parts = _gated_parts(module)
    inputs = [f"{name}.{part}" for part in parts[:-1]]
    down = getattr(module, parts[-1])
    names = ("activation_fn", "act_fn", "activation")
    act = next((getattr(module, each) for each in names if hasattr(module, each)), nn.SiLU())  # lfm2 has none
    width = int(down.in_features)
    sparsity = float(getattr(module, "activation_sparsity", 0.0))  # gemma3n
    before, after = (float(getattr(module, f"{part}_multiplier", 1.0)) for part in ("gate", "down"))  # falcon_h1

    def forward(x: Tensor) -> Tensor:
        both = linear(x, f"{name}.gate_up_proj", inputs, 2 * width)
        if _ACTIVATIONS.get(type(act)) == "QuickGelu" and before == 1:
            y = down(gated_silu(both, width))
        else:
            gate, up = split_features(both, [width, width])
            gate = _sparse(gate, sparsity) if sparsity else gate
            y = down(act(gate if before == 1 else gate * before) * up)
        return y if after == 1 else y * after  # type: ignore[no-any-return]

    return forward


def _sparse(x: Tensor, sparsity: float) -> Tensor:
    """Subtract the quantile `sparsity` that a normal distribution with the mean and deviation of a row would have.

    What is below it becomes 0.
    """
    factor = NormalDist().inv_cdf(sparsity)
    mean = x.mean(-1, keepdim=True)
    deviation = (x - mean).square().mean(-1, keepdim=True).sqrt()
    return functional.relu(x - (mean + deviation * factor))


def _gated_parts(module: nn.Module) -> tuple[str, ...]:
    """Return the names of the products of a gated MLP, the last one's at the end; empty for another module."""
    for parts in _GATED:
        if all(isinstance(getattr(module, part, None), nn.Linear) for part in parts):
            return parts
    return ()


def replacements(model: PreTrainedModel) -> Iterator[tuple[nn.Module, Forward]]:
    """Yield each module of `model` that gets another forward for the trace, with that forward."""
    family = FAMILIES[model.config.model_type]
    for name, module in model.named_modules():
        if projections(module):
            yield module, fused_attention(module, name)
        elif is_latent(module):
            yield module, latent_attention(module, name)
        elif kind := recurrent_kind(module):
            yield module, kind.forward(module, name)
        elif is_experts(module):
            yield module, experts_forward(module, name)
        elif _gated_parts(module):
            yield module, _gated_mlp(module, name)
        elif is_product(module) and not _is_narrow(module):
            yield module, _linear(module, name)
        elif isinstance(module, nn.Embedding):
            yield module, _embedding(module, name)
        elif type(module).__name__.endswith("RMSNorm"):
            yield module, _rms_norm(module, adds_one=family.norm_adds_one)
        elif type(module).__name__ in ("CohereLayerNorm", "Cohere2LayerNorm"):
            yield module, _cohere_layer_norm(module)
        elif type(module).__name__ == "OlmoLayerNorm":
            yield module, _bare_layer_norm(module)
        elif type(module) in _ACTIVATIONS:
            yield module, partial(activation, operator=_ACTIVATIONS[type(module)])


def output_layer(model: PreTrainedModel) -> nn.Linear:
    """Return the linear layer of the logits. Raises ValueError if it is not one."""
    layer = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    if not isinstance(layer, nn.Linear):
        raise ValueError("an output layer that is not a linear layer")
    return layer


def rotary_modules(model: PreTrainedModel) -> list[nn.Module]:
    """Return the rotary embeddings: none (gpt2) or one, with a table for each of its `rotary_kinds`."""
    return [module for module in model.modules() if type(module).__name__.endswith("RotaryEmbedding")]


def rotary_kinds(module: nn.Module) -> list[str | None]:
    """Return the layer types for which a rotary embedding has tables of their own; [None] if all share one."""
    if "layer_type" not in inspect.signature(module.forward).parameters:
        return [None]
    kinds: list[str] = list(module.layer_types)  # type: ignore[arg-type]
    return [kind for kind in kinds if hasattr(module, f"{kind}_inv_freq")]


def rotary_table(module: nn.Module, context_length: int, layer_type: str | None = None) -> tuple[Tensor, Tensor]:
    """Return cos and sin of every position, float32 [context_length, rotary_dim / 2], as the module computes them.

    layer_type: one of `rotary_kinds`. Raises ValueError if GroupQueryAttention does not support this rotation.
    """
    inputs: list[Any] = [torch.zeros(1, 1, 1), torch.arange(context_length)[None]]
    with torch.no_grad():
        made = module(*inputs, *([layer_type] if layer_type else []))
    cos, sin = (table[0] for table in ((made.real, made.imag) if isinstance(made, Tensor) else made))  # deepseek_v2
    frequencies: Any = getattr(module, f"{layer_type}_inv_freq" if layer_type else "inv_freq")
    if cos.shape[-1] == len(frequencies):  # gpt_oss gives one half of the table
        cos, sin = (torch.cat([table, table], dim=-1) for table in (cos, sin))
    half = cos.shape[-1] // 2
    if half % 8:
        raise ValueError(f"a rotary width of {2 * half}, not a multiple of 16,")
    for first, second in ((slice(half), slice(half, None)), (slice(0, None, 2), slice(1, None, 2))):
        if all(torch.equal(table[:, first], table[:, second]) for table in (cos, sin)):
            return cos[:, first].contiguous(), sin[:, first].contiguous()
    raise ValueError("a rotary table with different halves")
