"""Embedding models without the files of sentence-transformers: encoders, and any model with `--pooling`."""

from __future__ import annotations

from pathlib import Path

from infrs.bundle.manifest import Pooling

from ..config_check import read_json
from .layout import Layout
from .module_files import read_transformer
from .prompts import read_lengths, read_prompts

DEFAULT_POOLING: Pooling = "mean"  # that of sentence-transformers
# Model types that read texts and write none, and that Optimum exports.
_ENCODERS = frozenset(
    {
        "albert",
        "bert",
        "camembert",
        "convbert",
        "data2vec-text",
        "deberta-v2",
        "distilbert",
        "electra",
        "megatron-bert",
        "mobilebert",
        "modernbert",
        "mpnet",
        "nystromformer",
        "rembert",
        "roberta",
        "roformer",
        "xlm-roberta",
    }
)
# What a model of these classes learned is in its token vectors; a head for another task is not what was asked for.
_WITHOUT_TASK = ("Model", "ForMaskedLM", "ForPreTraining", "LMHeadModel")


def is_plain_encoder(directory: Path) -> bool:
    """Return whether the folder holds an encoder alone, without a head for another task."""
    config = read_json(directory / "config.json")
    if config.get("model_type") not in _ENCODERS or config.get("is_decoder"):
        return False
    architectures = config.get("architectures") or []
    return all(str(name).endswith(_WITHOUT_TASK) for name in architectures)


def plain_layout(directory: Path, pooling: Pooling | None) -> Layout:
    """Return the layout of a model without modules. pooling: None for that of sentence-transformers.

    Raises SourceError for values that cannot be served.
    """
    lowercase, max_tokens = read_transformer(directory)
    return Layout(
        pooling=pooling or DEFAULT_POOLING,
        max_tokens=max_tokens,
        lowercase=lowercase,
        prompts=read_prompts(directory),
        lengths=read_lengths(directory),
    )
