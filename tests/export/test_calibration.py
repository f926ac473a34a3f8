"""The importance of inputs: what is measured, and what is left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from arch_models import FUSED, make_model
from infrs_export import calibration
from infrs_export.calibration import measure_importance
from torch import nn
from transformers import PreTrainedModel


@pytest.fixture
def model() -> PreTrainedModel:
    made: PreTrainedModel = make_model(*FUSED["llama"])
    return made


def encode(text: str) -> list[int]:
    return [ord(character) % 50 for character in text[:200]]


def test_it_is_the_mean_square_of_what_a_layer_takes_in(model: PreTrainedModel) -> None:
    name, layer = next(
        (name, module) for name, module in model.named_modules() if name.endswith("layers.0.mlp.down_proj")
    )
    seen: list[torch.Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        for start in range(0, 200, 64):
            model(torch.tensor([encode(calibration.TEXT)[start : start + 64]]))
    handle.remove()
    measured = measure_importance(model, encode, 64)
    expected = torch.cat([part[0] for part in seen]).square().mean(0).numpy()
    np.testing.assert_allclose(measured[f"{name}.weight"], expected, rtol=1e-4, atol=float(expected.mean()) * 1.01e-4)
    assert not any("lm_head" in measured_name for measured_name in measured)
    again = measure_importance(model, encode, 64)
    assert all(np.array_equal(measured[key], again[key]) for key in measured)


def test_layers_that_see_nothing_or_no_numbers_are_left_out(model: PreTrainedModel) -> None:
    linears = [(name, module) for name, module in model.base_model.named_modules() if isinstance(module, nn.Linear)]
    model.base_model.add_module("never_called", nn.Linear(8, 8))
    broken_name, broken = linears[-1]
    broken.register_forward_pre_hook(lambda _, inputs: (inputs[0] * float("nan"),))
    measured = measure_importance(model, encode, 64)
    assert all(np.isfinite(mean).all() and (mean > 0).all() for mean in measured.values())
    assert not any("never_called" in name or broken_name in name for name in measured)
    assert len(measured) == len(linears) - 1


def test_hooks_are_gone_when_the_model_fails(model: PreTrainedModel) -> None:
    before = [len(module._forward_pre_hooks) for module in model.modules()]
    with pytest.raises(IndexError):
        measure_importance(model, lambda text: [10**6] * 40, 64)
    assert [len(module._forward_pre_hooks) for module in model.modules()] == before
