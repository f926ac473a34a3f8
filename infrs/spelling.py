"""Suggest a known word for a misspelt one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LONGEST = 64  # a comparison takes time quadratic in the length
_LIKENESS = 0.73  # of difflib's ratio: `max_tokens` is like `max_output_tokens`, `images` is not like `messages`


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the most similar known word, None if none is similar."""
    if len(word) > _LONGEST:
        return None
    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=_LIKENESS)), None)
