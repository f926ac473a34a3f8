"""A cross-encoder that scores a pair of texts from byte tokens by a formula. A text can request a failure."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from infrs.bundle.manifest import ClassifierManifest, Recipe, Source
from infrs.models.encoders.classifier import ClassifierModel, EncodedText
from infrs.models.encoders.encoder import Vector
from infrs.text.tokenizer import Tokenizer, spelt_bytes

CLASSIFIER_ID = "fake/ranks"
MAX_TOKENS = 64
QUERY = b"abc"  # that a text alone is compared with
SPECIAL = 3  # <s> first </s> second </s>
START, END = 256, 257

MANIFEST = ClassifierManifest(
    source=Source(kind="local", model_id=CLASSIFIER_ID, revision="main"),
    dtype="float32",
    recipe=Recipe(name="none", options={}, hash="0" * 64),
    architecture="fake",
    graph_file="model.onnx",
    vocab_size=258,
    context_length=MAX_TOKENS,
    labels=("LABEL_0",),
    activation="sigmoid",
    token_types=True,
    files={},
    tool_versions={},
    parity={},
    created="2026-01-01T00:00:00Z",
)


def logit(first: bytes, second: bytes) -> float:
    """Return half the number of bytes of the second text that the first one has, less those that it lacks."""
    return sum(1 if byte in first else -1 for byte in second) / 2


class OverlapEncoder:
    """Score a pair in `interval` seconds. The text "boom" fails."""

    threads = 1

    def __init__(self, interval: float) -> None:
        self.interval = interval

    def encode(self, pair: EncodedText) -> Vector:
        time.sleep(self.interval)
        texts: tuple[list[int], list[int]] = ([], [])
        for token, kind in zip(pair.ids, pair.type_ids, strict=True):
            texts[kind].append(token)
        first, second = texts
        if not second:
            return np.array([logit(QUERY, bytes(first[1:-1]))], np.float32)
        assert (first[0], first[-1], second[-1]) == (START, END, END)
        if b"boom" in bytes(second[:-1]):
            raise RuntimeError("/secret/path")
        return np.array([logit(bytes(first[1:-1]), bytes(second[:-1]))], np.float32)


def pair_tokenizer() -> Tokenizer:
    """Return a tokenizer of bytes, with special tokens around and between the texts of a pair."""
    spelling = {spelt_bytes(character)[0]: character for character in pre_tokenizers.ByteLevel.alphabet()}
    backend = Backend(models.BPE(vocab={character: byte for byte, character in spelling.items()}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in ("<s>", "</s>")])
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=[("<s>", START), ("</s>", END)]
    )
    return Tokenizer(backend.to_str())


def classifier_model(interval: float) -> ClassifierModel:
    encoder = OverlapEncoder(interval)
    return ClassifierModel(CLASSIFIER_ID, MANIFEST, Path("bundle"), pair_tokenizer(), encoder, 1_700_000_000)
