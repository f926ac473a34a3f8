"""Refuse model types that infrs cannot export, before any weight is read."""

from __future__ import annotations

import inspect
from itertools import takewhile
from typing import Any

import transformers
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES

from infrs.errors import ExportError, SourceError

from ..graph.fusions.experts import is_experts
from ..graph.fusions.families import FAMILIES
from ..graph.plain_trace import plain_shapes

_MEDIA = ("vision_config", "audio_config", "speech_config", "image_token_id", "image_token_index")
_ATTENTION = frozenset({"full_attention", "sliding_attention", "chunked_attention"})  # layers with keys and values
_RELATED = 3  # characters that the names of related families have in common


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
            f"choose a text model, such as one of the family {_nearest(model_type)}"
        )
    if model_type not in CONFIG_MAPPING:
        raise SourceError(
            f"transformers {transformers.__version__} does not know the model_type {model_type!r:.60}, so the model "
            f"needs a newer transformers and infrs; choose a model of the family {_nearest(model_type)} until then"
        )
    if seq2seq or model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        kind = "has an encoder and a decoder" if seq2seq else "is not a causal language model"
        raise SourceError(
            f"{model_type!r:.60} {kind}, which infrs does not support; "
            f"choose a model of the family {_nearest(model_type)}"
        )


def check_architecture(config: PretrainedConfig) -> None:
    """Raise SourceError for a causal language model that keeps states which infrs cannot serve."""
    if (family := FAMILIES.get(config.model_type)) and family.recurrent:
        return
    architecture: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    others = sorted({str(kind) for kind in getattr(config, "layer_types", None) or ()} - _ATTENTION)
    if others or architecture._is_stateful or "cache" not in inspect.signature(architecture.forward).parameters:
        where = f" in its layers of {' and '.join(others)}" if others else ""
        raise SourceError(
            f"{config.model_type} keeps no keys and values of past tokens{where}, which infrs needs; "
            f"choose a model of the family {_nearest(config.model_type)}"
        )


def check_experts(outline: PreTrainedModel, *, writes: bool) -> None:
    """Raise SourceError for a mixture of experts that gets no fused graph, before its weights are read.

    writes: the model writes text; embedding models and classifiers get no fused graph.
    """
    model_type = outline.config.model_type
    if not any(map(is_experts, outline.modules())):
        return
    if not writes:
        raise SourceError(
            f"{model_type} is a mixture of experts, which infrs exports as a model that writes text, and not for "
            "embeddings or classes; choose a model without experts"
        )
    if model_type not in FAMILIES:
        raise SourceError(
            f"{model_type} is a mixture of experts, and infrs does not support its layers yet; "
            f"choose a model of the family {_nearest(model_type)}"
        )


def check_past(outline: PreTrainedModel) -> None:
    """Raise SourceError for keys and values that the plain graph cannot have, before the weights are read.

    Nothing is raised for a model that does not run without weights; the export refuses it later.
    """
    model_type = outline.config.model_type
    if model_type in FAMILIES:
        return
    try:
        plain_shapes(outline)
    except ExportError as error:
        reason = str(error).rpartition(";")[0]
        raise SourceError(f"{reason}; choose a model of the family {_nearest(model_type)}") from error
    except Exception:  # transformers raises any type
        return


def _nearest(model_type: str) -> str:
    """Return the newest fused family with the longest common prefix; "llama" without one."""

    def common(name: str) -> int:
        return len(list(takewhile(lambda pair: pair[0] == pair[1], zip(model_type, name, strict=False))))

    nearest = max(FAMILIES, key=lambda name: (common(name), name))
    return nearest if common(nearest) >= _RELATED else "llama"
