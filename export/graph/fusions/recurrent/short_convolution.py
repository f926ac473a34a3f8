"""The short convolution of lfm2: a product to two gates and a value, a convolution, and a product."""

from __future__ import annotations

from torch import Tensor, nn

from infrs.bundle.states import LayerState, fixed_state

from ..attention import Forward, Module
from ..ops import linear, split_features
from ..traced_states import FusedCache


def is_short_conv(module: nn.Module) -> bool:
    """Return whether `module` is a layer with a short convolution and nothing else."""
    return type(module).__name__.endswith("ShortConv") and isinstance(getattr(module, "conv", None), nn.Conv1d)


def short_conv_states(module: Module) -> list[LayerState]:
    """Return the state: the last inputs of the convolution."""
    return [fixed_state("conv", (module.conv_kernel_size - 1, module.conv.in_channels))]


def short_conv(module: Module, name: str) -> Forward:
    """Return a forward for the short convolution `module` named `name`."""
    width = int(module.conv.in_channels)

    def forward(hidden_states: Tensor, *_: object, cache: FusedCache, **__: object) -> Tensor:
        packed = linear(hidden_states, f"{name}.in_proj", [f"{name}.in_proj"], 3 * width)
        before, after, value = split_features(packed, [width] * 3)
        mixed = cache.convolve(int(module.layer_idx), before * value, module.conv, "none")
        return module.out_proj(after * mixed)  # type: ignore[no-any-return]

    return forward
