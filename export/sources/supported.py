"""Refuse model types that infrs cannot export, before any weight is read."""

from __future__ import annotations

import inspect
from typing import Any

import transformers
from optimum.exporters.onnx import model_configs  # type: ignore[import-untyped]  # noqa: F401  # registers the types
from optimum.exporters.tasks import TasksManager  # type: ignore[import-untyped]
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES

from infrs.errors import SourceError

from ..graph.fusions.families import FAMILIES

_MEDIA = ("vision_config", "audio_config", "speech_config", "image_token_id", "image_token_index")
_OTHERS = "choose a model of one of these families: " + ", ".join(sorted(FAMILIES))


def check_model_type(config: dict[str, Any]) -> None:
    """Raise SourceError unless `config` (of config.json) describes a causal language model of text."""
    model_type = str(config["model_type"])
    decoder, seq2seq = bool(config.get("is_decoder")), bool(config.get("is_encoder_decoder"))
    if model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not decoder and not seq2seq:
        raise SourceError(
            f"{model_type} reads texts and writes none; to serve the embeddings of such a model, give --pooling mean"
        )
    if model_type not in FAMILIES and any(config.get(name) is not None for name in _MEDIA):
        raise SourceError(
            f"{model_type!r:.60} is a multimodal model, and infrs cannot export its text part alone; "
            "choose the text model that it was made from"
        )
    if model_type not in CONFIG_MAPPING:
        raise SourceError(
            f"transformers {transformers.__version__} does not know the model_type {model_type!r:.60}, "
            f"so the model may need a newer infrs; {_OTHERS}"
        )
    if seq2seq or model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        kind = "has an encoder and a decoder" if seq2seq else "is not a causal language model"
        raise SourceError(f"{model_type!r:.60} {kind}, which infrs does not support; {_OTHERS}")


def check_architecture(config: PretrainedConfig) -> None:
    """Raise SourceError for a causal language model that cannot become a graph with keys and values."""
    model_type = config.model_type
    architecture: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    takes = inspect.signature(architecture.forward).parameters
    if architecture._is_stateful or "past_key_values" not in takes:
        raise SourceError(
            f"{model_type} keeps no keys and values of past tokens (it is recurrent or has no cache), "
            f"which infrs does not support; {_OTHERS}"
        )
    tasks = TasksManager._SUPPORTED_MODEL_TYPE.get(model_type.replace("_", "-"), {})
    tasks = TasksManager._SUPPORTED_MODEL_TYPE.get(model_type, tasks).get("onnx", {})
    if model_type not in FAMILIES and "text-generation-with-past" not in tasks:
        raise SourceError(f"infrs cannot export {model_type} models yet; {_OTHERS}")
