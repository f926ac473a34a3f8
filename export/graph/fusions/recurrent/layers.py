"""The layers with states of a fixed size: which modules they are, their states and their forwards."""

from __future__ import annotations

from torch import nn

from infrs.bundle.states import LayerState

from ..attention import Forward, Module
from .linear_attention import delta_net, delta_net_states, is_delta_net, why_not_delta_net


def is_recurrent(module: nn.Module) -> bool:
    """Return whether `module` is a layer that keeps states of a fixed size."""
    return is_delta_net(module)


def recurrent_states(module: Module) -> list[LayerState]:
    """Return the states of a layer, at most one of a kind."""
    return delta_net_states(module)


def recurrent_forward(module: Module, name: str) -> Forward:
    """Return a forward for the layer `module` named `name`."""
    return delta_net(module, name)


def why_not_recurrent(module: Module) -> str:
    """Return why a layer cannot be fused; empty if it can."""
    return why_not_delta_net(module)
