"""Bound how much longer a tokenizer makes a text, so that a hostile `tokenizer.json` cannot fill the memory.

The parts are those of the `tokenizers` library: normalizers, pre-tokenizers and decoders, alone or in sequences.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from math import prod
from typing import Any, Protocol

import orjson
from tokenizers import Tokenizer

MAX_GROWTH = 1000  # ALBERT's normalizers may reach 324
MAX_ADDED = 1024  # tokens around a text
# The Unicode forms apply once, however many of them there are. NFKC and NFKD write U+FDFA as 18 characters.
_UNICODE = re.compile("NF[CD]|NFK[CD]|Lowercase|BertNormalizer|StripAccents|Nmt")
_UNICODE_GROWTH = 18
_SEQUENCES = ("normalizers", "pretokenizers", "decoders")

_Part = Mapping[str, Any]


class _Stateful(Protocol):
    def __getstate__(self) -> bytes: ...


def check_growth(tokenizer: Tokenizer) -> None:
    """Raise ValueError if a text can become more than MAX_GROWTH times as long, or gets more than MAX_ADDED tokens."""
    for name in ("normalizer", "pre_tokenizer", "decoder"):
        growth = _growth(getattr(tokenizer, name))
        if growth > MAX_GROWTH:
            raise ValueError(f"its {name} makes a text up to {growth:g} times as long, but {MAX_GROWTH} is the maximum")
    added = tokenizer.num_special_tokens_to_add(False)
    if added > MAX_ADDED:
        raise ValueError(f"it adds {added} tokens to a text, but {MAX_ADDED} is the maximum")


def _growth(part: _Stateful | None) -> float:
    """Return how many times as long a part of a tokenizer can make a text."""
    if part is None:
        return 1
    steps = list(_steps(orjson.loads(part.__getstate__())))
    unicode = any(_UNICODE.fullmatch(step["type"]) for step in steps)
    return prod(map(_step_growth, steps)) * (_UNICODE_GROWTH if unicode else 1)


def _steps(part: _Part) -> Iterator[_Part]:
    """Yield the steps of a part, in order."""
    nested = next((part[name] for name in _SEQUENCES if name in part), None)
    if nested is None:
        yield part
    for step in nested or ():
        yield from _steps(step)


def _step_growth(step: _Part) -> float:
    match step["type"]:
        case "ByteLevel":
            return 4  # a character becomes its bytes
        case "Replace" if "String" in step["pattern"]:
            return max(1.0, len(step["content"]) / max(1, len(step["pattern"]["String"])))
        case "Replace":
            return len(step["content"]) + 1  # the pattern may match nothing, next to each character
        case "Precompiled":  # the replacements follow a table of 32-bit numbers, which its size precedes
            data = base64.b64decode(step["precompiled_charsmap"])
            texts = data[4 + int.from_bytes(data[:4], "little") :].split(b"\0")
            return max(1, *(len(text.decode(errors="replace")) for text in texts))
        case _:
            return 1
