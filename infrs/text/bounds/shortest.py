"""A lower bound for a text's token count, from its bytes: infrs refuses too long a text without tokenising it.

Each byte of a text is part of one token, and no longer than the longest token with that byte. So each byte counts one
over that length, and the sum over a text is a lower bound. This holds if each byte is in some token: for byte-level
BPE, and for SentencePiece's BPE with a fallback token for each byte. Other tokenizers drop text or map unknown text to
one token; for them the bound is 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from collections.abc import Set as AbstractSet
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from infrs.text.rust import steps_of

_SPACE = "\u2581"  # SentencePiece's
_KEEPS_ALL = ("ByteLevel", "Digits", "Metaspace")  # pre-tokenizers
_PIECE = 1 << 16  # characters; normalising a piece holds the GIL for some 10 ms
# Never composes with the character before it (UAX #15): of letters, only Hangul vowels and finals do.
_BORDER = re.compile(r"(?![\u1160-\u11ff])[\x00-\x7f\w]")
_ROUNDING = 1 - 1e-9

Part = Mapping[str, Any]  # of a tokenizer.json


class Shortest:
    """A lower bound of token counts for one tokenizer. Thread-safe."""

    def __init__(self, tokenizer: Tokenizer, spelt_bytes: Callable[[str], bytes]) -> None:
        """Compute what each byte adds to the bound. `spelt_bytes`: returns the bytes of a token."""
        parts = steps_of(tokenizer)
        model, vocab = tokenizer.model, tokenizer.get_vocab(with_added_tokens=False)
        added = tokenizer.get_added_tokens_decoder().values()
        self._strips = any(token.lstrip or token.rstrip for token in added)  # all whitespace next to the token
        self._normalizer = tokenizer.normalizer
        is_bpe = isinstance(model, BPE)
        self._falls_back = is_bpe and model.byte_fallback and _falls_back(parts, vocab)
        self._worth = np.zeros(256)
        if self._falls_back:
            tokens = [_as_space(token).encode() for token in vocab]
            whole = [_as_space(token.content).encode() for token in added]
            self._worth = _worth(tokens + whole, alone=range(256))
        elif is_bpe and not model.unk_token and _is_byte_level(parts, vocab):
            tokens = [spelt_bytes(token) for token in vocab]
            # A byte that is no token by itself may be dropped.
            alone = [spelt_bytes(letter)[0] for letter in ByteLevel.alphabet() if letter in vocab]
            self._worth = _worth(tokens + [token.content.encode() for token in added], alone)

    def num_tokens(self, text: str) -> int:
        """Return a lower bound of the number of tokens; 0 if none is known."""
        counts = sum(map(self._count_bytes, _pieces(text)), start=np.zeros(256, np.int64))
        return int(np.ceil(float(counts @ self._worth) * _ROUNDING))

    def _count_bytes(self, piece: str) -> npt.NDArray[np.int64]:
        """Return the count of each byte in a piece, [256]; zeros if NFC may change the piece."""
        if self._falls_back:
            piece = _as_space(piece)
        elif not self._is_normal(piece):
            return np.zeros(256, np.int64)
        if self._strips:
            piece = "".join(piece.split())
        return np.bincount(np.frombuffer(piece.encode(errors="ignore"), np.uint8), minlength=256)

    def _is_normal(self, text: str) -> bool:
        """Return whether NFC changes neither the text nor any part of it."""
        return self._normalizer is None or text.isascii() or self._normalizer.normalize_str(text) == text


def _pieces(text: str) -> Iterator[str]:
    """Split a text so that NFC of the parts is NFC of the whole."""
    start = 0
    while start < len(text):
        border = _BORDER.search(text, start + _PIECE)
        end = border.start() if border else len(text)
        yield text[start:end]
        start = end


def _worth(tokens: Collection[bytes], alone: Collection[int]) -> npt.NDArray[np.float64]:
    """Return the least that each byte adds to the token count, [256]; 0 for bytes that are not in `alone`."""
    longest = np.ones(256)
    by_length = sorted(filter(None, tokens), key=len)
    for length, alike in groupby(by_length, key=len):
        longest[np.frombuffer(b"".join(alike), np.uint8)] = length
    worth = np.zeros(256)
    worth[list(alone)] = 1 / longest[list(alone)]
    return worth


def _is_byte_level(parts: Part, vocab: Collection[str]) -> bool:
    """Return whether, after NFC, each byte of a text is in a token, except bytes without a vocabulary entry."""
    normalizer, splitter = parts["normalizer"], parts["pre_tokenizer"]
    return (
        (normalizer is None or normalizer["type"] == "NFC")
        and any(step["type"] == "ByteLevel" for step in _steps(splitter, "pretokenizers"))
        and _keeps_all(splitter, known=frozenset().union(*vocab))
    )


def _falls_back(parts: Part, vocab: Collection[str]) -> bool:
    """Return whether it is SentencePiece's: visible spaces, and a fallback token for each byte."""
    return (
        all(f"<0x{byte:02X}>" in vocab for byte in range(256))
        and all(step["type"] == "Prepend" or _shows_spaces(step) for step in _steps(parts["normalizer"], "normalizers"))
        and _keeps_all(parts["pre_tokenizer"], known=frozenset())
    )


def _steps(part: Part | None, name: str) -> list[Part]:
    if part is None:
        return []
    return list(part[name]) if part["type"] == "Sequence" else [part]


def _shows_spaces(step: Part) -> bool:
    return bool(step["type"] == "Replace" and step["pattern"] == {"String": " "} and step["content"] == _SPACE)


def _keeps_all(pre_tokenizer: Part | None, known: AbstractSet[str]) -> bool:
    """Return whether it only splits a text. It may remove letters that are not `known`, as for a GGUF file."""
    return all(
        step["type"] in _KEEPS_ALL
        or (step["type"] == "Split" and (step["behavior"] != "Removed" or _removes_unknown(step["pattern"], known)))
        for step in _steps(pre_tokenizer, "pretokenizers")
    )


def _removes_unknown(pattern: Part, known: AbstractSet[str]) -> bool:
    regex = str(pattern.get("Regex", ""))
    letters = regex[1:-1]
    return regex == f"[{letters}]" and re.escape(letters) == letters and known.isdisjoint(letters)


def _as_space(text: str) -> str:
    return text.replace(_SPACE, " ")
