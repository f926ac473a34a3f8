"""Read the configuration of a folder's model. For a multimodal model it is that of the text half."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING, PretrainedConfig

from infrs.errors import SourceError

from .checks.types import check_types, culprit
from .config_check import read_json
from .rope_config import FIELD, SCALING, Rope, read_rope

# Multimodal wrappers of a text model type, with other tensor names.
_WRAPPERS = frozenset(
    {
        "gemma3",
        "gemma3n",
        "gemma4",
        "llava",
        "mistral3",
        "qwen2_5_vl",
        "qwen2_vl",
        "qwen3_5",
        "qwen3_5_moe",
        "qwen3_vl",
        "smolvlm",
    }
)
_HALVES = {"qwen2_5_vl_text": "qwen2", "qwen2_vl_text": "qwen2", "qwen3_vl_text": "qwen3"}
_RENAMED = {
    r"^model\.language_model\.": "model.",
    r"^language_model\.model\.": "model.",
    r"^language_model\.lm_head\.": "lm_head.",
    r"^model\.text_model\.": "model.",
}
# The first is empty, as checked. The others have no effect: infrs loads every model in float32.
_DROPPED = ("quantization_config", "dtype", "torch_dtype")
_OTHER_HALF = re.compile(
    r"^(model\.)?(vision_tower|vision_model|visual|multi_modal_projector|connector|audio_tower|embed_vision|embed_audio)\."
)


@dataclass(frozen=True)
class SourceConfig:
    """The configuration of the model to load. given: the fields of config.json that it is made of.

    rope: the rotary settings of the file by type of layer; empty for a model that does not rotate.
    renamed: patterns in names of tensors, each with its replacement.
    """

    config: PretrainedConfig
    given: dict[str, Any]
    rope: Rope = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)

    def rename(self, name: str) -> str:
        """Return the model's name for a tensor of the checkpoint."""
        for pattern, replacement in self.renamed.items():
            name = re.sub(pattern, replacement, name)
        return name

    def used(self, name: str) -> bool:
        """Return whether a tensor belongs to the half that is loaded."""
        return not (self.renamed and _OTHER_HALF.search(name))


def has_text_half(config: dict[str, Any]) -> bool:
    """Return whether `config` is that of a multimodal model with a text half that can be loaded alone."""
    return config.get("model_type") in _WRAPPERS


def read_source_config(directory: Path) -> SourceConfig:
    """Return the configuration in `directory`. Raises SourceError for a model type that transformers does not know."""
    given = read_json(directory / "config.json")
    if has_text_half(given):
        return _text_half(given)
    fields, rope = read_rope(given)
    return SourceConfig(_make(fields), fields, rope)


def _text_half(given: dict[str, Any]) -> SourceConfig:
    """Return the configuration of the text half: without images, it is the whole model."""
    whole = CONFIG_MAPPING[given["model_type"]].from_dict(given).get_text_config()
    text = given.get("text_config") or {name: value for name, value in given.items() if name != "vision_config"}
    model_type = _HALVES.get(whole.model_type, whole.model_type)
    ropes = {name: _without_sections(text[name]) for name in (SCALING, FIELD) if name in text}
    fields, rope = read_rope({**text, **ropes, "model_type": model_type})
    ties = {name: given[name] for name in ("tie_word_embeddings",) if name in given}
    defaults = whole.to_dict() | {FIELD: _without_sections(whole.rope_parameters)}
    return SourceConfig(_make({**defaults, **fields, **ties}), fields, rope, _RENAMED)


def _without_sections(rope: object) -> object:
    """Convert Qwen's M-RoPE to ordinary RoPE, which is equal for text. Raises SourceError for scaled M-RoPE."""
    if not isinstance(rope, dict) or "mrope_section" not in rope:
        return rope
    rest = {name: value for name, value in rope.items() if name not in ("mrope_section", "mrope_interleaved")}
    kinds = {rest.pop(name) for name in ("type", "rope_type") if name in rest}
    if kinds - {"mrope", "default"}:
        raise SourceError(f"config.json scales M-RoPE by {', '.join(sorted(kinds))}, which infrs does not support")
    return rest | {"rope_type": "default"} if rest else None


def _make(config: dict[str, Any]) -> PretrainedConfig:
    config = {name: value for name, value in config.items() if name not in _DROPPED}
    if config["model_type"] == "gemma" and config.get("hidden_act") == "gelu":
        # The first Gemma files say "gelu" and mean its tanh form; transformers ignores `hidden_activation`.
        config["hidden_act"] = config.get("hidden_activation") or "gelu_pytorch_tanh"
    of = CONFIG_MAPPING[config["model_type"]]
    check_types(config, of)
    try:
        made: PretrainedConfig = of.from_dict(config)
    except Exception as error:  # transformers raises any type
        raise culprit(error, config, of.from_dict) from error
    return made
