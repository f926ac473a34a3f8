"""The layers with states of a fixed size: which modules they are, their states and their forwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from infrs.bundle.states import LayerState

from ..attention import Forward, Module
from .linear_attention import delta_net, delta_net_states, is_delta_net, why_not_delta_net
from .short_convolution import is_short_conv, short_conv, short_conv_states
from .state_space import is_state_space, state_space, state_space_states, why_not_state_space


@dataclass(frozen=True)
class Kind:
    """A kind of layer.

    matches: whether a module is such a layer. states: those of a layer, at most one of a kind. forward: for a module
    and its name. why_not: why a layer cannot be fused; empty if it can.
    """

    matches: Callable[[nn.Module], bool]
    states: Callable[[Module], list[LayerState]]
    forward: Callable[[Module, str], Forward]
    why_not: Callable[[Module], str] = lambda module: ""


_KINDS = (
    Kind(is_delta_net, delta_net_states, delta_net, why_not_delta_net),
    Kind(is_short_conv, short_conv_states, short_conv),
    Kind(is_state_space, state_space_states, state_space, why_not_state_space),
)


def recurrent_kind(module: nn.Module) -> Kind | None:
    """Return the kind of a layer that keeps states of a fixed size; None for other modules."""
    return next((kind for kind in _KINDS if kind.matches(module)), None)
