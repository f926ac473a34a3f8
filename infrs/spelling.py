"""What somebody who wrote an unknown word may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LONGEST = 64  # comparing takes the square of the length
_LIKENESS = 0.73  # of difflib's ratio: `max_tokens` is like `max_output_tokens`, `images` is not like `messages`


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is most like this one; None if none is like it."""
    if len(word) > _LONGEST:
        return None
    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=_LIKENESS)), None)
