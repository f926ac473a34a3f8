"""Scores that are not finite, as those of a graph that overflows."""

from __future__ import annotations

from collections.abc import Callable

from infrs.engine.sampling.logits import Row
from infrs.engine.sequence import Sequence


def poisoned_sample(value: float, is_sick: Callable[[Sequence], bool]) -> Callable[..., int]:
    """Return a function to replace `Sequence.sample`, which overwrites the scores of sick sequences."""
    sample = Sequence.sample

    def poisoned(sequence: Sequence, row: Row, eos_ids: frozenset[int], best: int | None = None) -> int:
        if is_sick(sequence):
            row[:] = value
            best = None if best is None else int(row.argmax())
        return sample(sequence, row, eos_ids, best)

    return poisoned
