"""The text half of a multimodal model answers as the whole model does to a text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from arch_models import FUSED, make_model
from infrs_export.graph.convert import convert
from infrs_export.recipes.floats import FloatLowering
from infrs_export.sources.resolve import resolve
from infrs_export.sources.torch_model import load_model
from older_config import respell
from safetensors.torch import load_file, save_file
from transformers import CONFIG_MAPPING, AutoModelForImageTextToText

from infrs.errors import SourceError

_TEXT: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
_QWEN: dict[str, Any] = {"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 64}
_SECTIONS = {"type": "mrope", "mrope_section": [2, 3, 3]}
_INTERLEAVED = {"rope_type": "default", "mrope_interleaved": True, "mrope_section": [4, 2, 2]}
_QWEN2 = {"depth": 1, "embed_dim": 32, "hidden_size": 64, "num_heads": 2}
_TOKENS = {"image_token_id": 90, "video_token_id": 91, "vision_start_token_id": 92, "vision_end_token_id": 93}
_PIXTRAL = {"model_type": "pixtral", **_VISION, "head_dim": 16}
# model type -> (its text config, its vision config, the rest)
WRAPPERS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "gemma3": (
        {"head_dim": 16, "sliding_window": 7, "layer_types": ["sliding_attention", "full_attention"]},
        _VISION,
        {"mm_tokens_per_image": 4, "image_token_index": 90, "boi_token_index": 91, "eoi_token_index": 92},
    ),
    "gemma4": (
        {
            "num_hidden_layers": 4,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "num_kv_shared_layers": 2,
            "sliding_window": 7,
            "head_dim": 16,
            "global_head_dim": 32,
            "hidden_size_per_layer_input": 16,
            "vocab_size_per_layer_input": 97,
        },
        {
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 16,
        },
        {"image_token_id": 90, "video_token_id": 91, "audio_token_id": 92, "boi_token_id": 93, "eoi_token_id": 94},
    ),
    "llava": ({"model_type": "llama"}, {"model_type": "clip_vision_model", **_VISION}, {"image_token_index": 90}),
    "mistral3": (
        {"model_type": "mistral", "head_dim": 32, "sliding_window": None, "rope_theta": 1e6},
        _PIXTRAL,
        {"image_token_index": 90},
    ),
    "qwen2_vl": (
        {"rope_scaling": _SECTIONS},
        {"depth": 1, "embed_dim": 32, "hidden_size": 64, "num_heads": 2},
        _TOKENS,
    ),
    "qwen2_5_vl": ({"rope_scaling": _SECTIONS}, _QWEN, _TOKENS),
    "qwen3_vl": (
        {
            "head_dim": 16,
            "rope_scaling": {"rope_type": "default", "mrope_interleaved": True, "mrope_section": [4, 2, 2]},
        },
        _QWEN | {"num_position_embeddings": 16, "deepstack_visual_indexes": [0]},
        _TOKENS,
    ),
    "qwen3_5": (
        {
            "num_hidden_layers": 3,
            "layer_types": ["linear_attention", "full_attention", "linear_attention"],
            "head_dim": 32,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 16,
            "linear_value_head_dim": 24,
            "rope_parameters": {"rope_theta": 1e6, "partial_rotary_factor": 0.5, **_INTERLEAVED},
        },
        _QWEN | {"num_position_embeddings": 16},
        _TOKENS,
    ),
    "smolvlm": ({"model_type": "llama"}, _VISION, {"image_token_id": 90, "scale_factor": 1}),
}


_, *_OTHER_HALF = WRAPPERS["gemma4"]
WRAPPERS["gemma4-experts"] = (
    {
        "layer_types": ["sliding_attention", "full_attention"],
        "sliding_window": 7,
        "head_dim": 16,
        "global_head_dim": 32,
        "hidden_size_per_layer_input": 0,
        "attention_k_eq_v": True,
        "num_global_key_value_heads": 1,
        "enable_moe_block": True,
        "num_experts": 4,
        "top_k_experts": 2,
        "moe_intermediate_size": 32,
    },
    *_OTHER_HALF,
)


def make(folder: Path, name: str, **more: Any) -> Any:
    torch.manual_seed(0)
    text, vision, rest = WRAPPERS[name]
    config = CONFIG_MAPPING[name.partition("-")[0]](
        text_config={**_TEXT, **text, **more}, vision_config=vision, **rest, **more
    )
    model = AutoModelForImageTextToText.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * parameter.shape[-1] ** -0.5)
    model.save_pretrained(folder)
    return model


def load(folder: Path) -> Any:
    return load_model(resolve(str(folder), revision="main", model_id=None, note=print))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", WRAPPERS)
def test_text_half_answers_like_the_whole_model(tmp_path: Path, name: str, tied: bool) -> None:
    whole = make(tmp_path / "model", name, tie_word_embeddings=tied)
    text = load(tmp_path / "model")
    ids = torch.arange(3, 43)[None]
    with torch.inference_mode():
        assert torch.equal(text(ids).logits, whole(input_ids=ids).logits)
    assert (text.lm_head.weight is text.model.embed_tokens.weight) == tied


@pytest.mark.parametrize("name", WRAPPERS)
def test_the_spelling_of_transformers_4_is_the_same_model(tmp_path: Path, name: str) -> None:
    whole, path = make(tmp_path / "model", name), tmp_path / "model" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"text_config": respell(config["text_config"])}))
    ids = torch.arange(3, 43)[None]
    with torch.inference_mode():
        assert torch.equal(load(tmp_path / "model")(ids).logits, whole(input_ids=ids).logits)


@pytest.mark.parametrize("name", WRAPPERS)
def test_text_half_gets_the_fused_graph(tmp_path: Path, name: str) -> None:
    make(tmp_path / "model", name)
    (tmp_path / "out").mkdir()
    assert convert(load(tmp_path / "model"), tmp_path / "out", FloatLowering()).reason == ""


def test_the_text_half_of_gemma3n_leaves_out_the_keys_of_layers_that_share_them(tmp_path: Path) -> None:
    """Its other half needs a package that is not installed, so the whole model is not made."""
    whole = make_model(*FUSED["gemma3n"])
    text = {f"model.language_model.{name.removeprefix('model.')}": value for name, value in whole.state_dict().items()}
    del text["model.language_model.lm_head.weight"]  # tied
    shared = {f"model.language_model.layers.4.self_attn.{part}.weight": torch.ones(3) for part in ("k_proj", "v_norm")}
    other = {f"model.{part}.weight": torch.ones(3) for part in ("vision_tower.stem", "audio_tower.conv", "embed_audio")}
    save_file({**text, **shared, **other}, tmp_path / "model.safetensors", {"format": "pt"})
    config = {"model_type": "gemma3n", "text_config": whole.config.to_dict(), "vision_config": {}, "audio_config": {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    ids = torch.arange(3, 43)[None]
    with torch.inference_mode():
        assert torch.equal(load(tmp_path)(ids).logits, whole(input_ids=ids).logits)
    save_file(
        {**text, "model.language_model.layers.1.self_attn.k_more.weight": torch.ones(3)}, tmp_path / "model.safetensors"
    )
    with pytest.raises(SourceError, match=r"k_more"):
        load(tmp_path)


@pytest.mark.parametrize("prefix", ["language_model.model.", "model.language_model."])
def test_either_layout_of_names_and_nothing_missing(tmp_path: Path, prefix: str) -> None:
    make(tmp_path / "model", "gemma3", tie_word_embeddings=True)
    path = tmp_path / "model" / "model.safetensors"
    tensors = {name.replace("language_model.model.", prefix): value for name, value in load_file(path).items()}
    save_file(tensors, path, {"format": "pt"})
    load(tmp_path / "model")
    del tensors[f"{prefix}norm.weight"]
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(SourceError, match=r"lack model\.norm\.weight"):
        load(tmp_path / "model")
