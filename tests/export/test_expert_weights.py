"""transformers stacks the tensors of experts: each one fills its own part of a parameter, value by value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from arch_models import make_model
from infrs_export.sources.checks.places import Place
from infrs_export.sources.checks.tensor_values import check_values
from infrs_export.sources.resolve import Model, resolve
from infrs_export.sources.torch_model import load_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from infrs.errors import SourceError

IDS = torch.arange(3, 67)[None]
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
FAMILIES: dict[str, dict[str, Any]] = {
    "mixtral": {"num_local_experts": 4},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": {**_EXPERTS, "shared_expert_intermediate_size": 64, "decoder_sparse_step": 1},
    "qwen3_moe": {**_EXPERTS, "head_dim": 32},
}
GATE = "model.layers.1.mlp.experts.2.gate_proj.weight"
STACK = "model.layers.1.mlp.experts.gate_up_proj"


def model_of(folder: Path) -> Model:
    return resolve(str(folder), revision="main", model_id="tiny", note=print)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    make_model("qwen3_moe", FAMILIES["qwen3_moe"]).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
def test_experts_are_loaded_as_they_were_saved(tmp_path: Path, name: str, stacked: bool) -> None:
    """transformers 4 writes a tensor for each expert, and 5 too unless it is asked for its own layout."""
    made = make_model(name, FAMILIES[name])
    made.save_pretrained(tmp_path / "model", save_original_format=not stacked)
    names = load_file(tmp_path / "model" / "model.safetensors")
    assert any(".experts.3." in name for name in names) != stacked
    with torch.inference_mode():
        loaded: Any = load_model(model_of(tmp_path / "model"))
        assert torch.equal(loaded(IDS).logits, made(IDS).logits)


CHANGES: dict[str, tuple[Callable[[dict[str, Tensor]], None], str]] = {
    "an expert is missing": (lambda tensors: tensors.pop(GATE), rf"lack some matrices of {STACK}"),
    "one more expert": (lambda tensors: tensors.update({GATE.replace(".2.", ".4."): tensors[GATE]}), r"experts\.4\."),
    "another shape": (
        lambda tensors: tensors.update({GATE: tensors[GATE][:-1]}),
        r"experts\.2\.gate_proj\.weight of sh",
    ),
    "not a number": (lambda tensors: tensors[GATE].fill_(torch.nan), r"experts\.2\.gate_proj\.weight .*NaN"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_experts_that_do_not_fill_their_stack_are_refused(saved: Path, name: str) -> None:
    change, words = CHANGES[name]
    tensors = load_file(saved / "model.safetensors")
    change(tensors)
    save_file({name: value.clone() for name, value in tensors.items()}, saved / "model.safetensors", {"format": "pt"})
    with pytest.raises(SourceError, match=words):
        load_model(model_of(saved))


def test_each_expert_is_compared_with_its_tensor(saved: Path) -> None:
    model: Any = load_model(model_of(saved))
    uses = {GATE: Place(STACK, index=2, part=0, parts=2)}
    check_values("tiny", model, saved, uses)
    with torch.no_grad():
        model.get_parameter(STACK)[2, 47, -1] += 1e-6
    with pytest.raises(SourceError, match=f"loads {STACK} with other values than {GATE}"):
        check_values("tiny", model, saved, uses)
