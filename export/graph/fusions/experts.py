"""The experts of a mixture as one operator. The model's own router stays in the graph."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers.activations import SiLUActivation

from ...recipes.experts import ExpertWeights, Gate
from .attention import Forward, Module
from .ops import experts

_PARTS = ("gate_up_proj", "down_proj")


def is_experts(module: nn.Module) -> bool:
    """Return whether `module` holds the weights of all experts of a layer in two parameters of three dimensions."""
    return all(isinstance(part := getattr(module, name, None), nn.Parameter) and part.ndim == 3 for name in _PARTS)


def why_not_experts(module: Module) -> str:
    """Return why experts cannot be fused; empty if they can."""
    if _alternates(module):
        return ""
    act = module.act_fn
    if type(act) not in (nn.SiLU, SiLUActivation):
        return f"experts with the activation {type(act).__name__} are not supported"
    return ""


def experts_forward(module: Module, name: str) -> Forward:
    """Return a forward for experts, with the arguments of the original."""

    def forward(x: Tensor, indices: Tensor, weights: Tensor, *_: object, **__: object) -> Tensor:
        return experts(x, weights, indices, name)

    return forward


def expert_weights(module: Module, name: str, top_k: int) -> ExpertWeights:
    """Return the weights of experts, in the layout of the operator."""
    gate_up, down = (_array(getattr(module, part)) for part in _PARTS)
    gate_up_bias, down_bias = (_bias(module, part) for part in _PARTS)
    gate = Gate()
    if _alternates(module):  # gpt_oss: inputs first
        gate_up, down = gate_up.transpose(0, 2, 1), down.transpose(0, 2, 1)
        gate = Gate(float(module.alpha), 1.0, float(module.limit))
    else:
        gate_up = _alternate(gate_up)
        gate_up_bias = None if gate_up_bias is None else _alternate(gate_up_bias)
    return ExpertWeights(
        name=name,
        source=name,
        gate_up=np.ascontiguousarray(gate_up),
        down=np.ascontiguousarray(down),
        gate_up_bias=gate_up_bias,
        down_bias=down_bias,
        gate=gate,
        top_k=top_k,
    )


def _alternates(module: Module) -> bool:
    """Return whether gate and up alternate, as in gpt_oss, instead of following each other."""
    return hasattr(module, "alpha") and hasattr(module, "limit")


def _alternate(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn [E, gates then ups, ...] into [E, gate, up, gate, up, ...]."""
    gates, ups = np.split(array, 2, axis=1)
    return np.stack([gates, ups], axis=2).reshape(array.shape)


def _bias(module: Module, part: str) -> NDArray[np.float32] | None:
    bias = getattr(module, f"{part}_bias", None)
    return None if bias is None else _array(bias)


def _array(parameter: Any) -> NDArray[np.float32]:  # noqa: ANN401  # torch's parameters
    return np.asarray(parameter.detach().float().numpy(), np.float32)
