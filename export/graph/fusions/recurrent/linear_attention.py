"""The gated delta rule (qwen3_next, qwen3_5, olmo_hybrid): a short convolution, and a matrix for each head."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from infrs.bundle.states import LayerState, fixed_state

from ..attention import Forward, Module
from ..ops import Groups, activation, linear, reshape_features, rms_norm, split_features
from ..traced_states import FusedCache
from .ops import Recurrence, ones, softplus

_EPSILON = 1e-6  # of the normalised queries and keys


@dataclass(frozen=True)
class _Layout:
    """The modules of a layer. inputs: the products for queries, keys, values, gates, beta and decay, in this order."""

    inputs: tuple[str, ...]
    norm: str = "norm"
    output: str = "out_proj"


_LAYOUTS = (
    _Layout(("in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a")),  # qwen3_5
    _Layout(("in_proj_qkvz", "in_proj_ba")),  # qwen3_next
    _Layout(("q_proj", "k_proj", "v_proj", "g_proj", "b_proj", "a_proj"), "o_norm", "o_proj"),  # olmo_hybrid
)


def is_delta_net(module: nn.Module) -> bool:
    """Return whether `module` is a linear attention with the gated delta rule."""
    return type(module).__name__.endswith("GatedDeltaNet") and _layout(module) is not None


def delta_net_states(module: Module) -> list[LayerState]:
    """Return the states of the convolution and of the matrices."""
    conv = fixed_state("conv", (module.conv_kernel_size - 1, module.conv_dim))
    return [conv, fixed_state("recurrent", (module.num_v_heads, module.head_k_dim, module.head_v_dim))]


def delta_net(module: Module, name: str) -> Forward:
    """Return a forward for the linear attention `module` named `name`."""
    layer, heads, dim = int(module.layer_idx), int(module.num_v_heads), int(module.head_k_dim)
    keys, values = int(module.key_dim), int(module.value_dim)
    layout = _layout(module)
    assert layout  # noqa: S101 (is_delta_net has checked)
    inputs = [f"{name}.{part}" for part in layout.inputs]
    groups = {f"{name}.{part}": shape for part, shape in _groups(module).items()}
    widths = [2 * keys + values, values, heads, heads]
    recurrence = Recurrence(int(module.num_k_heads), heads, "gated_delta", dim**-0.5)
    rate = -module.A_log.detach().float().exp()
    norm, output = getattr(module, layout.norm), getattr(module, layout.output)
    largest = 2.0 if getattr(module, "allow_neg_eigval", False) else 1.0  # olmo_hybrid

    def forward(hidden_states: Tensor, *_: object, cache: FusedCache, **__: object) -> Tensor:
        packed = linear(hidden_states, f"{name}.in_proj", inputs, sum(widths), groups)
        mixed, gate, beta, decay = split_features(packed, widths)
        mixed = cache.convolve(layer, mixed, module.conv1d, "silu")
        both, value = split_features(mixed, [2 * keys, values])
        # A norm to length 1 is a norm to a root mean square of 1, divided by the root of the width.
        both = rms_norm(reshape_features(both, [2 * keys // dim, dim]), ones(dim, dim**-0.5), _EPSILON / dim)
        query, key = split_features(reshape_features(both, [2 * keys]), [keys, keys])
        beta = torch.sigmoid(beta) * (cache.active if largest == 1 else cache.active * largest)
        decay = softplus(decay + module.dt_bias) * rate * cache.active
        read = cache.recur(layer, (query, key, value), decay, beta, recurrence)
        read = rms_norm(reshape_features(read, [heads, values // heads]), norm.weight, float(norm.variance_epsilon))
        read = reshape_features(read, [values]) * activation(gate, "QuickGelu")
        return output(read)  # type: ignore[no-any-return]

    return forward


def why_not_delta_net(module: Module) -> str:
    """Return why a linear attention cannot be fused; empty if it can."""
    if module.activation not in ("silu", "swish"):
        return f"a linear attention with the activation {module.activation} is not supported"
    return ""


def _layout(module: nn.Module) -> _Layout | None:
    """Return the layout of a module; None if it has none of them."""
    for layout in _LAYOUTS:
        if all(type(getattr(module, each, None)) is nn.Linear for each in (*layout.inputs, layout.output)):
            return layout
    return None


def _groups(module: Module) -> dict[str, Groups]:
    """Return how qwen3_next orders the rows of its products: by key heads, each with its value heads."""
    if not hasattr(module, "in_proj_qkvz"):
        return {}
    heads, each = int(module.num_k_heads), int(module.num_v_heads // module.num_k_heads)
    values = each * int(module.head_v_dim)
    dim = int(module.head_k_dim)
    return {"in_proj_qkvz": Groups(heads, (dim, dim, values, values)), "in_proj_ba": Groups(heads, (each, each))}
