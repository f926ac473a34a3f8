"""The bytes of each token, and the tokens of a fragment of text that follows other text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson
from tokenizers import Tokenizer as Backend

from infrs.text.detokenizer import BYTE_TOKEN
from infrs.text.rust import share_model, steps_of
from infrs.text.tokenizer import Tokenizer, spelt_bytes

_TAG = re.compile(r"<.*>", re.DOTALL)

_Part = Mapping[str, Any]  # of a tokenizer.json


class Fragments:
    """A tokenizer for fragments. It shares the vocabulary of the model's tokenizer.

    control_ids: tokens that stand in no text: control tokens, and added tokens of the form `<...>`.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Read the vocabulary. Raises ValueError if tokens have no certain bytes."""
        self._tokenizer = tokenizer
        backend, steps = tokenizer.backend, steps_of(tokenizer.backend)
        self._space = _space(steps["decoder"])
        added = backend.get_added_tokens_decoder()
        tags = (number for number, token in added.items() if _TAG.fullmatch(token.content))
        self.control_ids = tokenizer.special_ids.union(tags)
        self._encoder = share_model(backend)
        inner = Backend.from_str(orjson.dumps(_without_prefix(steps)).decode())
        for step in ("normalizer", "pre_tokenizer"):
            if getattr(backend, step) is not None:
                setattr(self._encoder, step, getattr(inner, step))

    def spellings(self) -> dict[int, bytes]:
        """Return the bytes of each token; for those in `control_ids` the name."""
        vocabulary = self._tokenizer.backend.get_vocab(with_added_tokens=True)
        return {
            number: token.encode() if number in self.control_ids else self._bytes(token)
            for token, number in vocabulary.items()
        }

    def encode(self, fragment: str) -> list[int]:
        """Return the tokens of a fragment, to which the tokenizer adds no space."""
        ids: list[int] = self._encoder.encode(fragment, add_special_tokens=False).ids
        return ids

    def _bytes(self, token: str) -> bytes:
        if not self._space:
            return spelt_bytes(token)
        return bytes([int(token[3:5], 16)]) if BYTE_TOKEN.fullmatch(token) else token.replace(self._space, " ").encode()


def _space(decoder: _Part | None) -> str:
    """Return how a token spells a space, empty for GPT-2's alphabet of bytes; ValueError if tokens have no bytes."""
    steps = [] if decoder is None else [decoder, *decoder.get("decoders", ())]
    kinds = {step["type"] for step in steps}
    if "ByteFallback" in kinds:
        replaced = (step["pattern"].get("String", "") for step in steps if step.get("content") == " ")
        return next((text for text in replaced if len(text) == 1), " ")
    if "ByteLevel" in kinds:
        return ""
    raise ValueError("its decoder gives no bytes")


def _without_prefix(part: object) -> object:
    """Return a part of a `tokenizer.json` that adds no space before a text."""
    match part:
        case {"type": "Prepend"}:
            return None
        case {"type": "Metaspace", **rest}:
            return {**rest, "type": "Metaspace", "prepend_scheme": "never"}
        case dict():
            return {name: _without_prefix(value) for name, value in part.items()}
        case list():
            return [step for step in map(_without_prefix, part) if step is not None]
        case _:
            return part
