"""An embedding model that computes eight numbers from byte tokens by a formula. The text can request a failure."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from infrs.bundle.manifest import EmbeddingManifest, Recipe, Source
from infrs.models.encoders.embedding_model import EmbeddingModel
from infrs.models.encoders.encoder import Vector
from infrs.text.tokenizer import Tokenizer

EMBEDDING_ID = "fake/vectors"
DIMENSIONS = 8
MAX_TOKENS = 64

MANIFEST = EmbeddingManifest(
    source=Source(kind="local", model_id=EMBEDDING_ID, revision="main"),
    dtype="float32",
    recipe=Recipe(name="none", options={}, hash="0" * 64),
    architecture="fake",
    graph_file="model.onnx",
    vocab_size=256,
    context_length=MAX_TOKENS,
    dimensions=DIMENSIONS,
    pooling="mean",
    normalized=True,
    prompts={"query": "find: "},
    files={},
    tool_versions={},
    parity={},
    created="2026-01-01T00:00:00Z",
)


def formula(ids: Sequence[int]) -> Vector:
    """Return a vector of length 1 that depends on every id and its place."""
    places = np.arange(1, DIMENSIONS + 1)[:, None] * (np.arange(len(ids)) + 1)
    vector = np.cos(places * np.array(list(ids))).sum(1).astype(np.float32)
    return vector / np.linalg.norm(vector)


class FormulaEncoder:
    """Encode a text in `interval` seconds. The text "boom" fails."""

    threads = 1

    def __init__(self, interval: float) -> None:
        self.interval = interval

    def encode(self, ids: Sequence[int]) -> Vector:
        time.sleep(self.interval)
        if b"boom" in bytes(ids):
            raise RuntimeError("/secret/path")
        return formula(ids)


def embedding_model(tokenizer: Tokenizer, interval: float) -> EmbeddingModel:
    return EmbeddingModel(EMBEDDING_ID, MANIFEST, Path("bundle"), tokenizer, FormulaEncoder(interval), 1_700_000_000)
