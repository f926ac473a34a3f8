"""The experts of a mixture as one operator. The model's own router stays in the graph."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional
from transformers.activations import SiLUActivation

from .attention import Forward, Module
from .ops import experts

PARTS = ("gate_up_proj", "down_proj")  # the parameters of experts


def is_experts(module: nn.Module) -> bool:
    """Return whether `module` holds the weights of all experts of a layer in two parameters of three dimensions."""
    return all(isinstance(part := getattr(module, name, None), nn.Parameter) and part.ndim == 3 for name in PARTS)


def why_not_experts(module: Module) -> str:
    """Return why experts cannot be fused; empty if they can."""
    if alternates(module):
        return ""
    act = module.act_fn
    if type(act) not in (nn.SiLU, SiLUActivation) and act is not functional.silu:
        return f"experts with the activation {type(act).__name__} are not supported"
    return ""


def experts_forward(module: Module, name: str) -> Forward:
    """Return a forward for experts, with the arguments of the original."""

    def forward(x: Tensor, indices: Tensor, weights: Tensor, *_: object, **__: object) -> Tensor:
        return experts(x, weights, indices, name)

    return forward


def alternates(module: Module) -> bool:
    """Return whether gate and up alternate, as in gpt_oss, instead of following each other."""
    return hasattr(module, "alpha") and hasattr(module, "limit")
