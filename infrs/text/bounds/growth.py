"""Bound how much longer a tokenizer makes a text, and its work, so that a hostile `tokenizer.json` does no harm.

The parts are those of the `tokenizers` library: normalizers, pre-tokenizers and decoders, alone or in sequences.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any, Protocol

import orjson
from tokenizers import Tokenizer

from infrs.text.bounds.backtracking import check_pattern

MAX_GROWTH = 1000  # ALBERT's normalizers may reach 324
MAX_ADDED = 1024  # tokens around a text
MAX_STEPS = 256  # of a part; real ones have a few
MAX_PATTERN = 1 << 16  # characters of the regular expressions of a part; real ones have a few thousand
# The Unicode forms apply once, however many of them there are. NFKC and NFKD write U+FDFA as 18 characters.
_UNICODE = re.compile("NF[CD]|NFK[CD]|Lowercase|BertNormalizer|StripAccents|Nmt")
_UNICODE_GROWTH = 18
_SEQUENCES = ("normalizers", "pretokenizers", "decoders", "processors")

_Part = Mapping[str, Any]


class _Stateful(Protocol):
    def __getstate__(self) -> bytes: ...


def check_growth(tokenizer: Tokenizer) -> None:
    """Raise ValueError if a text can become more than MAX_GROWTH times as long, or gets more than MAX_ADDED tokens.

    Raises it too for a part with more than MAX_STEPS steps or more than MAX_PATTERN characters of regular expressions,
    for a regular expression that can take long, and for a post-processor that repeats the text.
    """
    for name in ("normalizer", "pre_tokenizer", "decoder"):
        part: _Stateful | None = getattr(tokenizer, name)
        steps = [] if part is None else list(_steps(orjson.loads(part.__getstate__())))
        if len(steps) > MAX_STEPS:
            raise ValueError(f"its {name} has {len(steps)} steps, but {MAX_STEPS} is the maximum")
        patterns = [*filter(None, map(_pattern, steps))]
        length = sum(map(len, patterns))
        if length > MAX_PATTERN:
            raise ValueError(
                f"the regular expressions of its {name} have {length} characters, but {MAX_PATTERN} is the maximum"
            )
        for pattern in patterns:
            check_pattern(pattern)
        growth = _growth(steps)
        if growth > MAX_GROWTH:
            raise ValueError(f"its {name} makes a text up to {growth:g} times as long, but {MAX_GROWTH} is the maximum")
    copies = _copies(tokenizer.post_processor)
    if copies > 1:
        raise ValueError(f"its post_processor repeats a text {copies} times, but 1 is the maximum")
    added = tokenizer.num_special_tokens_to_add(False)
    if added > MAX_ADDED:
        raise ValueError(f"it adds {added} tokens to a text, but {MAX_ADDED} is the maximum")


def _growth(steps: Sequence[_Part]) -> float:
    """Return how many times as long the steps of a part can make a text."""
    unicode = any(_UNICODE.fullmatch(step["type"]) for step in steps)
    return prod(map(_step_growth, steps)) * (_UNICODE_GROWTH if unicode else 1)


def _copies(processor: _Stateful | None) -> int:
    """Return how often the template of a post-processor contains the text; 1 without a template."""
    steps = [] if processor is None else _steps(orjson.loads(processor.__getstate__()))
    templates = (step["single"] for step in steps if step["type"] == "TemplateProcessing")
    return max((sum("Sequence" in piece for piece in template) for template in templates), default=1)


def _steps(part: _Part) -> Iterator[_Part]:
    """Yield the steps of a part, in order."""
    nested = next((part[name] for name in _SEQUENCES if name in part), None)
    if nested is None:
        yield part
    for step in nested or ():
        yield from _steps(step)


def _pattern(step: _Part) -> str:
    """Return a step's regular expression; empty if it has none."""
    pattern = step.get("pattern")
    return str(pattern.get("Regex", "")) if isinstance(pattern, dict) else ""


def _step_growth(step: _Part) -> float:
    match step["type"]:
        case "ByteLevel":
            return 4  # a character becomes its bytes
        case "Prepend":
            return len(step["prepend"]) + 1
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
