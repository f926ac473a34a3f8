"""Rotary settings in the spelling of transformers 4 give the model that they give in that of transformers 5."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from arch_models import FUSED, VOCAB, make_model
from infrs_export.sources.resolve import resolve
from infrs_export.sources.rope_config import read_rope
from infrs_export.sources.torch_model import load_model
from older_config import respell
from torch import Tensor
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from infrs.errors import SourceError

IDS = torch.arange(3, 67)[None] % VOCAB
CASES = {name: FUSED[name] for name in FUSED if not name.startswith(("gpt2", "llama-stray"))} | {
    "mistral-theta": ("mistral", {"rope_theta": 1e6, "sliding_window": None}),
    "qwen3-yarn": ("qwen3", {"head_dim": 32, "rope_scaling": {"type": "yarn", "factor": 4.0}}),
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
    model = make_model(*CASES[name])
    with torch.inference_mode():
        expected = model(IDS).logits
    model.save_pretrained(folder)
    assert torch.equal(logits(folder), expected)
    path.write_text(json.dumps(respell(json.loads(path.read_text()))))
    assert torch.equal(logits(folder), expected)


def test_a_base_matters_to_the_models_that_are_compared(tmp_path: Path) -> None:
    folder, path = tmp_path / "model", tmp_path / "model" / "config.json"
    make_model(*CASES["qwen3-theta"]).save_pretrained(folder)
    old = logits(folder)
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"rope_parameters": {"rope_theta": 1e4}}))
    assert not torch.allclose(logits(folder), old, atol=1e-2)


_LONG = {"type": "su", "short_factor": [1.0], "long_factor": [1.0], "original_max_position_embeddings": 32}
_SCALED = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}


@pytest.mark.parametrize(
    ("model_type", "fields", "words"),
    [
        ("llama", {"rope_parameters": _SCALED, "rope_theta": 5e5}, "rope_theta as 500000.0 and rope_parameters.rope_t"),
        (
            "llama",
            {"rope_parameters": _SCALED, "rope_scaling": {"type": "linear", "factor": 4.0}},
            "rope_scaling.factor as",
        ),
        ("llama", {"rope_parameters": {"sliding_attention": _SCALED, "full_attention": {}}}, "by type of layer"),
        ("llama", {"rope_parameters": {"full_attention": _SCALED, "rope_theta": 1e4}}, "mixes"),
        ("llama", {"rope_parameters": [1]}, "not an object"),
        ("gemma3_text", {"rope_parameters": _SCALED}, "one rope_parameters for all types of layers"),
        (
            "gemma3_text",
            {"rope_parameters": {"sliding_attention": _SCALED}, "rope_local_base_freq": 7.0},
            "rope_local_base_freq as 7.0 and rope_parameters.sliding_attention.rope_theta as 10000.0",
        ),
        ("phi3", {"rope_parameters": _LONG, "original_max_position_embeddings": 16}, "original_max_position_embeddin"),
    ],
)
def test_unknown_rope_parameters_are_refused(model_type: str, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(SourceError, match=words):
        read_rope({"model_type": model_type, **fields})


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    [
        ("llama", {"rope_theta": 1e4, "partial_rotary_factor": 0.5}, "rotary settings .*partial_rotary_factor"),
        ("llama", {"rope_type": "linear", "factor": 2.0, "partial_rotary_factor": 0.5}, "rotary settings"),
        ("llama", {"rope_theta": 1e4, "rope_type": "axial"}, "axial"),
        ("gpt2", {"rope_theta": 1e4}, "rope_parameters as .*, which transformers ignores"),
    ],
)
def test_parameters_that_the_loaded_model_does_not_apply_are_refused(
    tmp_path: Path, name: str, fields: dict[str, Any], words: str
) -> None:
    """Llama rotates whole heads, and GPT-2 none."""
    folder, path = tmp_path / "model", tmp_path / "model" / "config.json"
    make_model(*FUSED[name]).save_pretrained(folder)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rope_parameters": fields}))
    with pytest.raises(SourceError, match=words):
        logits(folder)


# What transformers 4.57 writes, and the same as `rope_parameters`.
BESIDE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "llama": (
        {
            "rope_theta": 5e5,
            "rope_scaling": {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
            | {"original_max_position_embeddings": 8192},
        },
        {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_theta": 5e5}
        | {"original_max_position_embeddings": 8192},
    ),
    "mistral": ({"rope_theta": 1e4, "rope_scaling": None}, {"rope_theta": 1e4}),
    "qwen3": (
        {
            "rope_theta": 1e6,
            "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
        },
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768, "rope_theta": 1e6},
    ),
    "phi3": (
        {
            "rope_theta": 1e4,
            "partial_rotary_factor": 1.0,
            "original_max_position_embeddings": 4096,
            "rope_scaling": {"type": "longrope", "short_factor": [1.0] * 8, "long_factor": [4.0] * 8},
        },
        {"rope_type": "longrope", "short_factor": [1.0] * 8, "long_factor": [4.0] * 8, "rope_theta": 1e4}
        | {"partial_rotary_factor": 1.0, "original_max_position_embeddings": 4096},
    ),
    "gpt_neox": ({"rotary_emb_base": 1e5, "rotary_pct": 0.5}, {"rope_theta": 1e5, "partial_rotary_factor": 0.5}),
    "gemma3_text": (
        {"rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": {"type": "linear", "factor": 8.0}},
        {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_theta": 1e4},
        },
    ),
}


@pytest.mark.parametrize("model_type", BESIDE)
def test_fields_of_transformers_4_become_parameters(model_type: str) -> None:
    older, newer = BESIDE[model_type]
    fields, rope = read_rope({"model_type": model_type, **older})
    assert fields.pop("original_max_position_embeddings", 4096) == 4096  # phi3 reads it there too
    assert fields == {"model_type": model_type, "rope_parameters": newer}
    assert rope == (newer if "full_attention" in newer else {"": newer})


YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
LISTS = {"short_factor": [1.5] * 8, "long_factor": [4.0] * 8}
LLAMA3 = {
    **{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "original_max_position_embeddings": 32,
}


@pytest.mark.parametrize(
    "scaling",
    [
        {"type": "linear", "factor": 4.0, "finetuned": True},
        {"rope_type": "linear", "type": "linear", "factor": 4},
        {"rope_type": "default"},
        {"type": "dynamic", "factor": 2.0},
        LLAMA3,
        YARN,
        YARN | {"attention_factor": 1.5, "beta_fast": 16, "beta_slow": 2},
        YARN | {"mscale": 2.0, "mscale_all_dim": 0.5, "truncate": False},
        {"type": "yarn", "factor": 2.5},
        {"type": "longrope", "original_max_position_embeddings": 32, **LISTS},
        {"type": "longrope", "factor": 2.0, "attention_factor": 1.25, **LISTS},
    ],
)
def test_frequencies_are_computed_twice_and_agree(tmp_path: Path, scaling: dict[str, Any]) -> None:
    """`rope_tables` takes them from the file, transformers from its configuration; `load_model` compares."""
    folder, path = tmp_path / "model", tmp_path / "model" / "config.json"
    make_model("llama", {"rope_theta": 5e5}).save_pretrained(folder)
    old, config = logits(folder), respell(json.loads(path.read_text()))
    path.write_text(json.dumps(config | {"rope_scaling": scaling}))
    assert torch.equal(logits(folder), old) == (scaling.get("type", scaling.get("rope_type")) in ("default", "dynamic"))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "two types": ({"type": "linear", "rope_type": "dynamic", "factor": 4.0}, "rope_scaling.rope_type as 'dynamic' and"),
    "no type": ({"factor": 4.0}, "which has no rope_type"),
    "an unknown type": ({"type": "ntk", "factor": 4.0}, "'ntk', which infrs does not know"),
    "an unknown field": ({"type": "linear", "factor": 4.0, "twist": 2}, "twist for rope_type linear"),
    "a field of another type": ({"type": "dynamic", "factor": 1.0, "alpha": 1000.0}, "alpha for rope_type dynamic"),
    "no factor": ({"type": "yarn", "factor": None}, "gives no factor"),
    "a factor of text": ({"type": "linear", "factor": "4"}, "'4', not a positive number"),
    "a negative factor": ({"type": "linear", "factor": -2.0}, "not a positive number"),
    "an infinite factor": ({"type": "linear", "factor": float("inf")}, "not a positive number"),
    "half of a pair": (YARN | {"mscale": 2.0}, "only one of mscale"),
    "a factor in a list": ({"type": "longrope", "factor": 2.0, **LISTS, "long_factor": [1.0, None]}, "long_factor"),
    "crossed bounds": (LLAMA3 | {"low_freq_factor": 8.0}, "low_freq_factor 8, which is not below"),
    "another base": ({"type": "default", "rope_theta": 7e5}, "rope_theta as 500000.0 and rope_scaling.rope_t"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_scaling_that_cannot_be_applied_is_refused(tmp_path: Path, name: str) -> None:
    scaling, words = REFUSED[name]
    folder, path = tmp_path / "model", tmp_path / "model" / "config.json"
    make_model("llama", {"rope_theta": 5e5}).save_pretrained(folder)
    path.write_text(json.dumps(respell(json.loads(path.read_text())) | {"rope_scaling": scaling}))
    with pytest.raises(SourceError, match=words):
        logits(folder)


def test_tables_that_are_not_those_of_the_file_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as those of a version of transformers that reads the fields differently."""
    folder = tmp_path / "model"
    make_model("llama", {"rope_theta": 5e5, "rope_scaling": YARN | {"rope_type": "yarn"}}).save_pretrained(folder)
    yarn = ROPE_INIT_FUNCTIONS["yarn"]
    monkeypatch.setitem(ROPE_INIT_FUNCTIONS, "yarn", lambda *args: (yarn(*args)[0] * 1.001, 1.0))
    with pytest.raises(SourceError, match="cannot apply the rotary settings"):
        logits(folder)


@pytest.mark.parametrize("key", ["type", "rope_type"])
def test_first_name_of_longrope_is_accepted(key: str, tmp_path: Path) -> None:
    """The first files of Phi-3 call it `su`."""
    folder, path = tmp_path / "model", tmp_path / "model" / "config.json"
    make_model(*FUSED["phi3-longrope"]).save_pretrained(folder)
    expected, fields = logits(folder), respell(json.loads(path.read_text()))
    lists = {name: fields["rope_scaling"][name] for name in ("short_factor", "long_factor")}
    path.write_text(json.dumps(fields | {"rope_scaling": {key: "su", **lists}}))
    assert torch.equal(logits(folder), expected)
