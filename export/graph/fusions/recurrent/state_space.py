"""The state-space layer of Mamba 2: a short convolution, and a matrix for each head that decays by the time step."""

from __future__ import annotations

import math

from torch import Tensor, nn

from infrs.bundle.states import LayerState, fixed_state

from ..attention import Forward, Module
from ..ops import activation, linear, reshape_features, rms_norm, split_features
from ..traced_states import FusedCache
from .ops import Recurrence, ones, softplus

_PARTS = {"in_proj": nn.Linear, "out_proj": nn.Linear, "conv1d": nn.Conv1d, "D": nn.Parameter, "dt_bias": nn.Parameter}


def is_state_space(module: nn.Module) -> bool:
    """Return whether `module` is a state-space layer of Mamba 2. Mamba 1 has a decay for each channel."""
    has_parts = all(isinstance(getattr(module, name, None), kind) for name, kind in _PARTS.items())
    return has_parts and getattr(getattr(module, "A_log", None), "ndim", 0) == 1


def state_space_states(module: Module) -> list[LayerState]:
    """Return the states of the convolution and of the matrices."""
    conv = fixed_state("conv", (module.conv_kernel_size - 1, module.conv_dim))
    return [conv, fixed_state("recurrent", (module.num_heads, module.ssm_state_size, module.head_dim))]


def state_space(module: Module, name: str) -> Forward:
    """Return a forward for the state-space layer `module` named `name`."""
    layer, heads, dim = int(module.layer_idx), int(module.num_heads), int(module.head_dim)
    inner, keys = int(module.intermediate_size), int(module.n_groups * module.ssm_state_size)
    widths = [inner, int(module.conv_dim), heads]
    recurrence = Recurrence(int(module.n_groups), heads, "gated", 1.0)
    rate = -module.A_log.detach().float().exp()
    skip = module.D.detach().float().repeat_interleave(dim)
    before, after = _multipliers(module)
    shortest, longest = module.time_step_limit or (0.0, math.inf)

    def forward(hidden_states: Tensor, *_: object, cache: FusedCache, **__: object) -> Tensor:
        x = hidden_states if before == 1 else hidden_states * before
        packed = linear(x, f"{name}.in_proj", [f"{name}.in_proj"], sum(widths))
        gate, mixed, step = split_features(packed if after is None else packed * after, widths)
        mixed = cache.convolve(layer, mixed, module.conv1d, "silu")
        value, key, query = split_features(mixed, [inner, keys, keys])
        step = softplus(step + module.dt_bias)
        if shortest > 0 or longest < math.inf:
            step = step.clamp(shortest, longest)
        step = step * cache.active
        written = reshape_features(reshape_features(value, [heads, dim]) * step[..., None], [inner])
        read = cache.recur(layer, (query, key, written), step * rate, None, recurrence)
        return module.out_proj(_gated(module, read + value * skip, gate))  # type: ignore[no-any-return]

    return forward


def why_not_state_space(module: Module) -> str:
    """Return why a state-space layer cannot be fused; empty if it can."""
    if module.activation not in ("silu", "swish"):
        return f"a state-space layer with the activation {module.activation} is not supported"
    return ""


def _multipliers(module: Module) -> tuple[float, Tensor | None]:
    """Return the multipliers of the layer's input and of its product [width], as falcon_h1 has them."""
    vector: Tensor | None = getattr(module, "mup_vector", None)
    before = float(getattr(module, "ssm_in_multiplier", 1.0))
    return before, None if vector is None or bool((vector == 1).all()) else vector.flatten()


def _gated(module: Module, x: Tensor, gate: Tensor) -> Tensor:
    """Multiply by silu(gate), and normalise groups of channels: before it, after it or not at all."""
    opening = activation(gate, "QuickGelu")
    if isinstance(module.norm, nn.Identity) or not getattr(module, "mamba_rms_norm", True):
        return x * opening
    if getattr(module.norm, "norm_before_gate", False):
        return _normalise(module, x) * opening
    return _normalise(module, x * opening)


def _normalise(module: Module, x: Tensor) -> Tensor:
    weight, epsilon, groups = module.norm.weight, float(module.norm.variance_epsilon), int(module.n_groups)
    if groups == 1:
        return rms_norm(x, weight, epsilon)
    width = int(module.intermediate_size)
    size = width // groups
    normal = rms_norm(reshape_features(x, [groups, size]), ones(size), epsilon)
    return reshape_features(normal, [width]) * weight  # type: ignore[no-any-return]
