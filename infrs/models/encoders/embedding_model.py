"""A loaded embedding model: its bundle, its tokenizer and its encoder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from infrs.bundle.manifest import EmbeddingManifest
from infrs.errors import RequestError
from infrs.models.encoders.encoder import open_encoder
from infrs.models.encoders.model import EncoderModel
from infrs.native.options import AUTO, KernelOptions
from infrs.text.tokenizer import Tokenizer


class EmbeddingModel(EncoderModel[EmbeddingManifest, Sequence[int]]):
    """An open bundle of an embedding model, which takes the token ids of a text."""

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
            raise self.too_long(param, len(ids))


def load_embedding_model(
    bundle: Path, manifest: EmbeddingManifest, tokenizer: Tokenizer, threads: int, kernels: KernelOptions = AUTO
) -> EmbeddingModel:
    """Open a verified bundle. Raises BundleError."""
    return EmbeddingModel(
        model_id=manifest.source.model_id,
        manifest=manifest,
        bundle=bundle,
        tokenizer=tokenizer,
        encoder=open_encoder(bundle, manifest, threads, kernels),
        created=int(time.time()),
    )
