"""A check that work takes time in proportion to its size."""

from __future__ import annotations

import time
from collections.abc import Callable


def is_linear(work: Callable[[int], object], count: int) -> bool:
    """Return whether four times `count` takes less than ten times the time of `count`, in one of two tries."""

    def seconds(size: int) -> float:
        started = time.process_time()
        work(size)
        return time.process_time() - started

    return any(seconds(4 * count) < 10 * seconds(count) + 0.05 for _ in range(2))
