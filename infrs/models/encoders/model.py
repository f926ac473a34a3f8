"""A loaded encoder: its bundle, its tokenizer and its graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from infrs.bundle.files import BundleFiles
from infrs.bundle.manifest import ClassifierManifest, EmbeddingManifest
from infrs.errors import ContextLengthError
from infrs.models.encoders.encoder import Encoder
from infrs.text.tokenizer import Tokenizer

EncoderManifest = TypeVar("EncoderManifest", EmbeddingManifest, ClassifierManifest)
Text = TypeVar("Text")


@dataclass(frozen=True)
class EncoderModel(Generic[EncoderManifest, Text]):
    """An open bundle of a model that reads texts. created: Unix time in seconds. files: as of LoadedModel.

    Text: the form in which the encoder takes a text.
    """

    model_id: str
    manifest: EncoderManifest
    bundle: Path
    tokenizer: Tokenizer
    encoder: Encoder[Text]
    created: int
    files: BundleFiles | None = None

    @property
    def max_model_len(self) -> int:
        """Return the maximum number of tokens of a text."""
        return self.manifest.context_length

    def too_long(self, param: str, num_tokens: int, counted: str = "") -> ContextLengthError:
        """Return the error for a text, named `param`, of more tokens than the model takes.

        counted: words for what the number of tokens includes.
        """
        return ContextLengthError(
            f"{param} has {num_tokens} tokens{counted}, but {self.model_id} takes texts of at most "
            f"{self.max_model_len}; shorten it",
            param=param,
        )
