"""A loaded sequence classifier: it scores a text, or as a cross-encoder a pair of texts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infrs.bundle import graph_signature as graph
from infrs.bundle.manifest import Activation, ClassifierManifest
from infrs.engine.runners.opening import bytes_to_open, reports_failures
from infrs.engine.runners.session import Session, create_session
from infrs.errors import RequestError
from infrs.machine.memory import limit_growth
from infrs.models.encoders.encoder import OnnxGraph, Vector, check_signature
from infrs.models.encoders.model import EncoderModel
from infrs.native.options import AUTO, KernelOptions
from infrs.text.tokenizer import Part, Tokenizer

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EncodedText:
    """The token ids of a text or a pair with the model's special tokens, and the type of each token: 0 or 1."""

    ids: list[int]
    type_ids: list[int]


class OnnxClassifier(OnnxGraph):
    """The graph of a classifier. token_types: whether it takes the types of tokens."""

    def __init__(self, session: Session, num_labels: int, *, token_types: bool) -> None:
        super().__init__(session, graph.LOGITS, num_labels)
        self._token_types = token_types

    def encode(self, text: EncodedText) -> Vector:
        """Return the logits of a text or a pair, float32 [labels]. Raises as `run`."""
        types = {graph.TOKEN_TYPE_IDS: text.type_ids} if self._token_types else {}
        return self.run({graph.INPUT_IDS: text.ids, **types})


class ClassifierModel(EncoderModel[ClassifierManifest, EncodedText]):
    """An open bundle of a classifier, which takes texts and pairs of texts."""

    def text_of(self, text: str, param: str, max_tokens: int | None = None) -> EncodedText:
        """Return a text alone. max_tokens: keep at most this many. Raises as `pair_of`."""
        return self._encoded(param, self._part(text, param, max_tokens), None)

    def part_of(self, text: str, param: str, max_tokens: int | None = None) -> Part:
        """Return the first text of a pair as tokens. max_tokens: keep at most this many.

        Raises ContextLengthError, which names the text `param`, if it leaves no room for another.
        """
        part = self._part(text, param, max_tokens)
        least = len(part.ids) + self.tokenizer.num_special(is_pair=True) + 1
        if least > self.max_model_len:
            raise self.too_long(param, least, " with the special ones and one of another text")
        return part

    def pair_of(self, first: Part, text: str, param: str, max_tokens: int | None = None) -> EncodedText:
        """Return the pair of a part and a second text. max_tokens: keep at most this many of the text.

        Raises ContextLengthError, which names the text `param`, for a pair that is too long, RequestError for one
        without a token.
        """
        return self._encoded(param, first, self._part(text, param, max_tokens))

    def _encoded(self, param: str, first: Part, second: Part | None) -> EncodedText:
        encoded = EncodedText(*self.tokenizer.joined(first, second))
        if len(encoded.ids) > self.max_model_len:
            counted = " with the text that it is compared with" if second is not None else ""
            raise self.too_long(param, len(encoded.ids), counted)
        if not encoded.ids:
            raise RequestError(f"{param}: the text has no token of this model; send another", param=param)
        return encoded

    def _part(self, text: str, param: str, max_tokens: int | None) -> Part:
        if max_tokens is None:
            self.tokenizer.check_length(text, self.max_model_len, param)
        part = self.tokenizer.part(text)
        if max_tokens is not None:
            part.truncate(max_tokens)
        return part

    def scores_of(self, logits: Vector, *, use_activation: bool = True) -> Scores:
        """Return the score of each label, float64 [labels]: the logits after the activation, or as they are."""
        wide = logits.astype(np.float64)
        return _ACTIVATIONS[self.manifest.activation](wide) if use_activation else wide


def load_classifier(
    bundle: Path, manifest: ClassifierManifest, tokenizer: Tokenizer, threads: int, kernels: KernelOptions = AUTO
) -> ClassifierModel:
    """Open a verified bundle. threads, kernels: as of `create_session`. Raises BundleError."""
    with limit_growth(bytes_to_open(bundle)):
        session = create_session(bundle / manifest.graph_file, threads, kernels=kernels)
    types = [graph.TOKEN_TYPE_IDS] if manifest.token_types else []
    check_signature(session, [graph.INPUT_IDS, *types], graph.LOGITS, "a classifier")
    encoder = OnnxClassifier(session, len(manifest.labels), token_types=manifest.token_types)
    with limit_growth(bytes_to_open(bundle)), reports_failures():
        encoder.encode(EncodedText([0, manifest.vocab_size - 1], [0, int(manifest.token_types)]))
    return ClassifierModel(
        model_id=manifest.source.model_id,
        manifest=manifest,
        bundle=bundle,
        tokenizer=tokenizer,
        encoder=encoder,
        created=int(time.time()),
    )


def _sigmoid(logits: Scores) -> Scores:
    small = np.exp(-np.abs(logits))  # never overflows
    return np.where(logits >= 0, 1 / (1 + small), small / (1 + small))


def _softmax(logits: Scores) -> Scores:
    exponentials: Scores = np.exp(logits - logits.max())
    scores: Scores = exponentials / exponentials.sum()
    return scores


_ACTIVATIONS: dict[Activation, Callable[[Scores], Scores]] = {
    "sigmoid": _sigmoid,
    "softmax": _softmax,
    "identity": lambda logits: logits,
}
