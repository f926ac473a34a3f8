"""What the inputs of products are like: what is measured, and what is left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from arch_models import FUSED, make_model
from infrs_export.recipes import calibration
from infrs_export.recipes.calibration import SEGMENT, measure_moments
from torch import nn
from transformers import PreTrainedModel


@pytest.fixture
def model() -> PreTrainedModel:
    made: PreTrainedModel = make_model(*FUSED["llama"])
    return made


def encode(text: str) -> list[int]:
    return [ord(character) % 50 for character in text[:200]]


@pytest.mark.parametrize("segment", [SEGMENT, 64])
def test_moments_are_mean_products_of_the_inputs(model: PreTrainedModel, segment: int) -> None:
    name, layer = next(
        (name, module) for name, module in model.named_modules() if name.endswith("layers.0.mlp.down_proj")
    )
    seen: list[torch.Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0]))
    with torch.inference_mode():
        for start in range(0, 200, 64):
            model(torch.tensor([encode(calibration.TEXT)[start : start + 64]]))
    handle.remove()
    measured = measure_moments(model, encode, 64, segment=segment)
    taken = torch.cat(seen).numpy()  # 96 inputs: one segment, or two of 64 of which the second is half empty
    expected = np.zeros((1, 96, 96) if segment == SEGMENT else (2, 64, 64))
    for place, moments in enumerate(expected):
        part = taken[:, place * segment : (place + 1) * segment]
        moments[: part.shape[1], : part.shape[1]] = part.T @ part / len(part)
    squares = np.diagonal(measured[f"{name}.weight"], axis1=1, axis2=2)
    assert (squares >= 0.9e-4 * squares.mean()).all()
    np.testing.assert_allclose(
        measured[f"{name}.weight"], expected, rtol=1e-3, atol=float(np.square(taken).mean()) * 1.01e-4
    )
    assert not any("lm_head" in measured_name for measured_name in measured)
    again = measure_moments(model, encode, 64, segment=segment)
    assert all(np.array_equal(measured[key], again[key]) for key in measured)


def test_products_of_one_input_share_its_moments(model: PreTrainedModel) -> None:
    measured = measure_moments(model, encode, 64)
    layer = "model.layers.1"
    query, key, value = (measured[f"{layer}.self_attn.{part}_proj.weight"] for part in "qkv")
    assert query is key is value
    assert measured[f"{layer}.mlp.gate_proj.weight"] is measured[f"{layer}.mlp.up_proj.weight"]
    assert measured[f"{layer}.self_attn.o_proj.weight"] is not value
    assert len(measured) == 14


def test_layers_without_finite_inputs_have_no_moments(model: PreTrainedModel) -> None:
    linears = [(name, module) for name, module in model.base_model.named_modules() if isinstance(module, nn.Linear)]
    model.base_model.add_module("never_called", nn.Linear(8, 8))
    broken_name, broken = linears[-1]
    broken.register_forward_pre_hook(lambda _, inputs: (inputs[0] * float("nan"),))
    measured = measure_moments(model, encode, 64)
    assert all(np.isfinite(mean).all() for mean in measured.values())
    assert all((np.diagonal(mean, axis1=1, axis2=2) > 0).all() for mean in measured.values())
    assert not any("never_called" in name or broken_name in name for name in measured)
    assert len(measured) == len(linears) - 1


def test_hooks_are_removed_after_a_failure(model: PreTrainedModel) -> None:
    before = [len(module._forward_pre_hooks) for module in model.modules()]
    with pytest.raises(IndexError):
        measure_moments(model, lambda text: [10**6] * 40, 64)
    assert [len(module._forward_pre_hooks) for module in model.modules()] == before
