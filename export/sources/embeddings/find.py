"""Decide whether a folder holds an embedding model, and read its layout."""

from __future__ import annotations

from pathlib import Path

from infrs.bundle.manifest import EMBEDDING_DTYPES, Dtype, Pooling
from infrs.errors import ExportError, SourceError

from ..config_check import read_json
from .layout import Layout
from .module_files import has_modules, read_layout
from .without_modules import is_plain_encoder, plain_layout


def is_embedding_model(directory: Path, pooling: Pooling | None) -> bool:
    """Return whether the folder is exported as an embedding model. pooling: the choice of the command."""
    return pooling is not None or has_modules(directory) or is_plain_encoder(directory)


def is_classifier(directory: Path) -> bool:
    """Return whether config.json names a sequence classifier, such as a cross-encoder."""
    names = read_json(directory / "config.json").get("architectures")
    return isinstance(names, list) and any(str(name).endswith("ForSequenceClassification") for name in names[:1])


def find_layout(directory: Path, pooling: Pooling | None) -> Layout:
    """Return the layout of an embedding model.

    Raises SourceError for a layout that infrs does not support, ExportError for a pooling that contradicts it.
    """
    config = read_json(directory / "config.json")
    if config.get("is_encoder_decoder"):
        raise SourceError(
            f"{config['model_type']!r:.60} has an encoder and a decoder, which infrs does not export for embeddings; "
            "choose an embedding model with one of them"
        )
    if not has_modules(directory):
        return plain_layout(directory, pooling)
    layout = read_layout(directory)
    if pooling not in (None, layout.pooling):
        raise ExportError(
            f"this model's files ask for {layout.pooling} pooling, so {pooling} would give other vectors; "
            "leave --pooling out",
            param="pooling",
        )
    return layout


def check_dtype(dtype: Dtype) -> None:
    """Raise ExportError for a dtype that embedding models and classifiers do not support."""
    if dtype not in EMBEDDING_DTYPES:
        raise ExportError(
            f"embedding models and classifiers are not offered in {dtype}, because its vectors differ too much; "
            f"choose --dtype {', '.join(EMBEDDING_DTYPES)}",
            param="dtype",
        )
