"""gpt-oss as OpenAI publishes it, with experts in MXFP4: read as transformers and ml_dtypes read it, and exported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from arch_models import FUSED, make_model
from infrs_export.pipeline import export_model
from infrs_export.sources.resolve import resolve
from infrs_export.sources.torch_model import load_model
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from tiny_tokenizer import VOCAB, write_tokenizer
from torch import Tensor
from transformers import AutoModelForCausalLM, Mxfp4Config

from infrs.bundle.files import verify_bundle
from infrs.errors import SourceError

EXPERTS = "model.layers.1.mlp.experts."
QUANTISATION = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]}


def write(folder: Path, tensors: dict[str, Tensor], **config: object) -> None:
    save_file(
        {name: value.contiguous() for name, value in tensors.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A model with experts of random blocks, of all values and several scales."""
    folder = tmp_path / "gpt-oss"
    model_type, changes = FUSED["gpt_oss"]
    make_model(model_type, {**changes, "vocab_size": VOCAB}).save_pretrained(folder)
    write_tokenizer(folder)
    tensors, chance = load_file(folder / "model.safetensors"), torch.Generator().manual_seed(1)
    for name in [name for name in tensors if name.endswith(("gate_up_proj", "down_proj"))]:
        experts, inputs, rows = tensors.pop(name).shape
        shape = (experts, rows, inputs // 32)
        tensors[f"{name}_blocks"] = torch.randint(0, 256, (*shape, 16), generator=chance, dtype=torch.uint8)
        tensors[f"{name}_scales"] = torch.randint(120, 125, shape, generator=chance, dtype=torch.uint8)
    write(folder, tensors, quantization_config=QUANTISATION)
    return folder


def load(folder: Path) -> Any:
    return load_model(resolve(str(folder), revision="main", model_id="tiny", note=print))


def by_ml_dtypes(blocks: Tensor, scales: Tensor) -> NDArray[np.float32]:
    """The parameter [E, inputs, rows], by the number formats of ml_dtypes."""
    codes = np.stack([blocks.numpy() & 15, blocks.numpy() >> 4], axis=-1)
    values = codes.view(ml_dtypes.float4_e2m1fn).astype(np.float32).reshape(*scales.shape, 32)
    steps = scales.numpy().view(ml_dtypes.float8_e8m0fnu).astype(np.float32)
    return (values * steps[..., None]).reshape(*scales.shape[:2], -1).transpose(0, 2, 1)


def test_experts_have_the_values_of_transformers_and_of_ml_dtypes(packed: Path) -> None:
    loaded, tensors = load(packed), load_file(packed / "model.safetensors")
    other = AutoModelForCausalLM.from_pretrained(
        packed, quantization_config=Mxfp4Config(dequantize=True), dtype=torch.float32, attn_implementation="eager"
    )
    state = other.state_dict()
    assert {name for name, _ in loaded.named_parameters()} <= state.keys()
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())
    for part in ("gate_up_proj", "down_proj"):
        expected = by_ml_dtypes(tensors[f"{EXPERTS}{part}_blocks"], tensors[f"{EXPERTS}{part}_scales"])
        np.testing.assert_array_equal(state[EXPERTS + part].numpy(), expected)
    assert not getattr(loaded.config, "quantization_config", None)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "int4"])
def test_it_is_exported_in_every_dtype(packed: Path, tmp_path: Path, dtype: str) -> None:
    bundle = export_model(str(packed), dtype=dtype, output=tmp_path / "cache", progress=False)
    assert verify_bundle(bundle).architecture == "gpt_oss"


Change = Callable[[dict[str, Tensor]], object]
CHANGES: dict[str, tuple[Change, str]] = {
    "no scales": (lambda tensors: tensors.pop(EXPERTS + "down_proj_scales"), r"quantised to MXFP4 .*down_proj_blocks"),
    "a scale that is no number": (
        lambda tensors: tensors[EXPERTS + "down_proj_scales"][3, 5].fill_(255),
        r"down_proj_scales of tiny holds NaN",
    ),
    "fewer rows": (
        lambda tensors: tensors.update(
            {
                name: tensors[name][:, :9]
                for name in tensors
                if "1.mlp.experts.down_proj_" in name and "bias" not in name
            }
        ),
        r"hold model\.layers\.1\.mlp\.experts\.down_proj of shape \[8, 32, 9\]",
    ),
    "blocks of another size": (
        lambda tensors: tensors.update({EXPERTS + "down_proj_blocks": tensors[EXPERTS + "down_proj_blocks"][..., :8]}),
        r"quantised to MXFP4",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_parts_that_make_no_parameter_are_refused(packed: Path, name: str) -> None:
    change, words = CHANGES[name]
    tensors = load_file(packed / "model.safetensors")
    change(tensors)
    write(packed, tensors)
    with pytest.raises(SourceError, match=words):
        load(packed)


def test_each_value_is_compared_with_what_transformers_loads(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.integrations import mxfp4  # noqa: PLC0415

    original = mxfp4.convert_moe_packed_tensors

    def wrong(*arguments: Any, **named: Any) -> Tensor:
        made = original(*arguments, **named)
        made[1, 2, 3] += 1
        return made

    monkeypatch.setattr(mxfp4, "convert_moe_packed_tensors", wrong)
    with pytest.raises(SourceError, match="with other values than"):
        load(packed)


@pytest.mark.parametrize("config", [{"quantization_config": {"quant_method": "gptq"}}, {"model_type": "llama"}])
def test_other_quantised_models_are_refused(packed: Path, config: dict[str, Any]) -> None:
    write(packed, load_file(packed / "model.safetensors"), **config)
    with pytest.raises(SourceError, match="quantised already"):
        load(packed)
