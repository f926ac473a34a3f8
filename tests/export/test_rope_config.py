"""Rotary settings in the spelling of transformers 5 give the model that they give in that of transformers 4."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from arch_models import FUSED, PLAIN, VOCAB, make_model, respell
from infrs_export.sources.resolve import resolve
from infrs_export.sources.rope_config import translate
from infrs_export.sources.torch_model import load_model
from torch import Tensor

from infrs.errors import SourceError

IDS = torch.arange(3, 67)[None] % VOCAB
CASES = {name: FUSED[name] for name in FUSED if not name.startswith(("gpt2", "olmo"))} | {
    "gpt_neox": PLAIN["gpt_neox"][:2],
    "mistral-theta": ("mistral", {"rope_theta": 1e6, "sliding_window": None}),
    "qwen3-theta": ("qwen3", {"head_dim": 32, "rope_theta": 1e6}),
    "granite-theta": ("granite", {"rope_theta": 5e5}),
    "phi3-longrope-partial": (
        "phi3",
        {
            **{"hidden_size": 128, "num_attention_heads": 2, "num_key_value_heads": 1, "partial_rotary_factor": 0.5},
            "rope_scaling": {"type": "longrope", "short_factor": [1.0 + i / 16 for i in range(16)]}
            | {"long_factor": [4.0] * 16},
            "original_max_position_embeddings": 32,
        },
    ),
}


def logits(folder: Path) -> Tensor:
    model = load_model(resolve(str(folder), revision="main", model_id=None, note=print))
    with torch.inference_mode():
        output: Tensor = model(IDS).logits
    return output


@pytest.mark.parametrize("name", CASES)
def test_both_spellings_are_one_model(tmp_path: Path, name: str) -> None:
    folder, path = tmp_path / "model", tmp_path / "model" / "config.json"
    make_model(*CASES[name]).save_pretrained(folder)
    old = logits(folder)
    path.write_text(json.dumps(respell(json.loads(path.read_text()))))
    assert torch.equal(logits(folder), old)


def test_a_base_matters_to_the_models_that_are_compared(tmp_path: Path) -> None:
    folder, path = tmp_path / "model", tmp_path / "model" / "config.json"
    make_model(*CASES["qwen3-theta"]).save_pretrained(folder)
    old = logits(folder)
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"rope_theta": 1e4}))
    assert not torch.allclose(logits(folder), old, atol=1e-2)


_SCALED = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}


@pytest.mark.parametrize(
    ("model_type", "fields", "words"),
    [
        ("llama", {"rope_parameters": _SCALED, "rope_theta": 5e5}, "rope_theta as 500000.0 and by rope_parameters"),
        ("llama", {"rope_parameters": _SCALED, "rope_scaling": {"factor": 4.0}}, "rope_scaling"),
        ("llama", {"rope_parameters": {"sliding_attention": _SCALED, "full_attention": {}}}, "by type of layer"),
        ("llama", {"rope_parameters": {"full_attention": _SCALED, "rope_theta": 1e4}}, "mixes"),
        ("llama", {"rope_parameters": [1]}, "not an object"),
        ("gemma3_text", {"rope_parameters": {"sliding_attention": _SCALED, "full_attention": {}}}, "scales sliding"),
    ],
)
def test_unknown_rope_parameters_are_refused(model_type: str, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(SourceError, match=words):
        translate({"model_type": model_type, **fields})


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    [
        ("llama", {"rope_theta": 1e4, "partial_rotary_factor": 0.5}, "cannot apply rope_parameters"),
        ("llama", {"rope_theta": 1e4, "rope_type": "proportional"}, "proportional"),
        ("gpt2", {"rope_theta": 1e4}, "cannot apply rope_parameters"),
        ("phi3-longrope", {"rope_theta": 1e4}, "cannot apply rope_parameters"),
    ],
)
def test_parameters_that_the_loaded_model_does_not_apply_are_refused(
    tmp_path: Path, name: str, fields: dict[str, Any], words: str
) -> None:
    """Llama has no partial rotation in transformers 4, GPT-2 has none at all, and Phi-3 keeps a factor of its own."""
    folder, path = tmp_path / "model", tmp_path / "model" / "config.json"
    make_model(*FUSED[name]).save_pretrained(folder)
    config = json.loads(path.read_text())
    if name == "phi3-longrope":
        fields = {"rope_type": "longrope", **config["rope_scaling"], **fields, "attention_factor": 3.0}
    rest = {key: value for key, value in config.items() if not key.startswith("rope_")}
    path.write_text(json.dumps(rest | {"rope_parameters": fields}))
    with pytest.raises(SourceError, match=words):
        logits(folder)


def test_a_configuration_without_the_field_is_left_alone() -> None:
    config = {"model_type": "llama", "rope_theta": 1e4}
    assert translate(config) == (config, [])
