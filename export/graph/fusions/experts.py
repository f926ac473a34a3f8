"""The experts of a mixture as one operator. The model's own router stays in the graph."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional
from transformers import PretrainedConfig
from transformers.activations import GELUTanh, SiLUActivation

from ...recipes.experts import GELU_TANH, Gate
from .attention import Forward, Module
from .ops import experts

PARTS = ("gate_up_proj", "down_proj")  # the parameters of experts
_GATES = {nn.SiLU: Gate(), SiLUActivation: Gate(), GELUTanh: GELU_TANH}


def is_experts(module: nn.Module) -> bool:
    """Return whether `module` holds the weights of all experts of a layer in two parameters of three dimensions."""
    return all(isinstance(part := getattr(module, name, None), nn.Parameter) and part.ndim == 3 for name in PARTS)


def why_not_experts(module: Module) -> str:
    """Return why experts cannot be fused; empty if they can."""
    if alternates(module):
        return ""
    name, gate = type(module.act_fn).__name__, _gate(module)
    if gate is None:
        return f"experts with the activation {name} are not supported"
    if gate.cubic and any(hasattr(module, f"{part}_bias") for part in PARTS):
        return f"experts with biases and the activation {name} are not supported"
    return ""


def gate_of(module: Module) -> Gate:
    """Return the activation of experts for which `why_not_experts` is empty."""
    if alternates(module):
        return Gate(float(module.alpha), 1.0, float(module.limit))
    gate = _gate(module)
    assert gate  # noqa: S101 (why_not_experts has checked)
    return gate


def _gate(module: Module) -> Gate | None:
    return Gate() if module.act_fn is functional.silu else _GATES.get(type(module.act_fn))


def experts_forward(module: Module, name: str) -> Forward:
    """Return a forward for experts, with the arguments of the original."""

    def forward(x: Tensor, indices: Tensor, weights: Tensor, *_: object, **__: object) -> Tensor:
        return experts(x, weights, indices, name)

    return forward


def alternates(module: Module) -> bool:
    """Return whether gate and up alternate, as in gpt_oss, instead of following each other."""
    return hasattr(module, "alpha") and hasattr(module, "limit")


def top_k(config: PretrainedConfig) -> int:
    """Return the number of experts of a token."""
    return int(getattr(config, "top_k_experts", None) or config.num_experts_per_tok)  # gemma4, the others
