"""Recognise a sequence classifier, and read from its config.json what turns its logits into scores.

A cross-encoder of sentence-transformers is a classifier with one label
(https://sbert.net/docs/package_reference/cross_encoder/cross_encoder.html).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers
from optimum.exporters.onnx import model_configs  # type: ignore[import-untyped]  # noqa: F401  # registers the types
from optimum.exporters.tasks import TasksManager  # type: ignore[import-untyped]
from transformers import PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from infrs.bundle.manifest import Activation
from infrs.errors import SourceError

from .config_check import read_json

_ACTIVATIONS: dict[str, Activation] = {"Sigmoid": "sigmoid", "Identity": "identity", "Softmax": "softmax"}
_MAX_LABELS = 4096
# Classes that give the types of tokens in transformers 4, and in 5 only if tokenizer_config.json asks for them.
_TYPED_IN_4 = {f"{name}Tokenizer" for name in ("Albert", "Funnel", "PreTrained", "RemBert", "RoFormer", "Splinter")}


def check_classifier_type(config: dict[str, Any]) -> None:
    """Raise SourceError for a classifier that infrs cannot export."""
    model_type = str(config["model_type"])
    if model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES or config.get("is_decoder"):
        raise SourceError(
            f"{model_type!r:.60} is not an encoder, and infrs exports classifiers and rerankers of encoders alone, "
            "such as BERT, XLM-RoBERTa and ModernBERT; choose one of these"
        )
    tasks = TasksManager._SUPPORTED_MODEL_TYPE.get(model_type, {}).get("onnx", {})
    if "text-classification" not in tasks:
        raise SourceError(f"infrs cannot export classifiers of the type {model_type!r:.60} yet; choose another model")


def labels_of(config: PretrainedConfig) -> tuple[str, ...]:
    """Return the name of each label, in the order of the logits. Raises SourceError for too many."""
    num_labels = config.num_labels or 0
    if not 1 <= num_labels <= _MAX_LABELS:
        raise SourceError(f"config.json gives {num_labels} labels, but infrs takes classifiers of 1 to {_MAX_LABELS}")
    names = {int(index): name for index, name in (config.id2label or {}).items()}
    return tuple(str(names.get(index, f"LABEL_{index}"))[:256] for index in range(num_labels))


def activation_of(config: dict[str, Any], num_labels: int) -> Activation:
    """Return what turns logits into scores: what the fields of sentence-transformers name, else the usual.

    One label has the sigmoid, as in sentence-transformers. Several have the softmax, or the sigmoid if a text may have
    several of them, as in transformers. Raises SourceError, with the name, for another activation.
    """
    own = config.get("sentence_transformers")
    named = own.get("activation_fn") if isinstance(own, dict) else None
    named = named or config.get("sbert_ce_default_activation_function")
    if named is None:
        is_sigmoid = num_labels == 1 or config.get("problem_type") == "multi_label_classification"
        return "sigmoid" if is_sigmoid else "softmax"
    activation = _ACTIVATIONS.get(str(named).rpartition(".")[2])
    if activation is None:
        raise SourceError(f"config.json names the activation {named!r:.80}; infrs offers {', '.join(_ACTIVATIONS)}")
    return activation


def longest_pair(directory: Path) -> int | None:
    """Return the maximum number of tokens of a pair by the tokenizer's configuration; None if it gives none."""
    longest = _tokenizer_config(directory).get("model_max_length")
    return longest if type(longest) is int and 1 <= longest <= 1 << 24 else None  # transformers' "none" is 1e30


def has_token_types(directory: Path, config: PretrainedConfig) -> bool:
    """Return whether the model distinguishes the two texts of a pair, and its tokenizer does too."""
    if int(getattr(config, "type_vocab_size", 0) or 0) < 2:
        return False
    files = _tokenizer_config(directory)
    names = files.get("model_input_names")
    if names is None:
        named = str(files.get("tokenizer_class") or "PreTrainedTokenizer").removesuffix("Fast")
        names = _inputs_of(named)
        if "backend" not in files and (names is None or named in _TYPED_IN_4):  # transformers 5 writes `backend`
            return True
    return "token_type_ids" in (names or ())


def _inputs_of(tokenizer_class: str) -> list[str] | None:
    """Return what tokenizers of a class give to a model; None for a class that transformers cannot import."""
    try:
        return list(getattr(transformers, tokenizer_class).model_input_names)
    except (AttributeError, ImportError):
        return None


def _tokenizer_config(directory: Path) -> dict[str, Any]:
    path = directory / "tokenizer_config.json"
    return read_json(path, limit=1 << 26) if path.is_file() else {}
