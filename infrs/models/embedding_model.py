"""A loaded embedding model: its bundle, its tokenizer and its encoder."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from infrs.bundle.files import BundleFiles
from infrs.bundle.manifest import EmbeddingManifest
from infrs.errors import ContextLengthError, RequestError
from infrs.models.encoder import Encoder, open_encoder
from infrs.native.options import AUTO, KernelOptions
from infrs.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class EmbeddingModel:
    """An open bundle of an embedding model. created: Unix time in seconds. files: as of LoadedModel."""

    model_id: str
    manifest: EmbeddingManifest
    bundle: Path
    tokenizer: Tokenizer
    encoder: Encoder
    created: int
    files: BundleFiles | None = None

    @property
    def max_model_len(self) -> int:
        """Return the maximum number of tokens of a text."""
        return self.manifest.context_length

    def ids_of(self, text: str, param: str) -> list[int]:
        """Return the token ids of a text, which begins with its prompt, and the model's special tokens.

        Raises RequestError, which names the text `param`, if the text has no token of this model.
        """
        ids = self.tokenizer.encode(text, special=True)
        if not ids:
            raise RequestError(f"{param}: the text has no token of this model; send another", param=param)
        return ids

    def check_text(self, text: str, param: str) -> None:
        """Raise ContextLengthError, before tokenisation, for a text that is certainly too long."""
        self.tokenizer.check_length(text, self.manifest.context_length, param)

    def check_length(self, ids: list[int], param: str) -> None:
        """Raise ContextLengthError, which names the text `param`, for more tokens than the model takes."""
        if len(ids) > self.manifest.context_length:
            raise ContextLengthError(
                f"{param} has {len(ids)} tokens, but {self.model_id} takes texts of at most "
                f"{self.manifest.context_length}; shorten it",
                param=param,
            )


def load_embedding_model(
    bundle: Path, manifest: EmbeddingManifest, threads: int, kernels: KernelOptions = AUTO
) -> EmbeddingModel:
    """Open a verified bundle. Raises BundleError."""
    return EmbeddingModel(
        model_id=manifest.source.model_id,
        manifest=manifest,
        bundle=bundle,
        tokenizer=Tokenizer.load(bundle),
        encoder=open_encoder(bundle, manifest, threads, kernels),
        created=int(time.time()),
    )
