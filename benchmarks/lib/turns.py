"""Ways to do something, timed in turns, and what is said of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

from infrs.bench.report import shown_ratio
from infrs.bench.stats import ratio


def timed(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each way in each round, after a round that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, run in ways.items():
            begin = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - begin)
    return {name: values[1:] for name, values in times.items()}


def compare(what: str, ways: Mapping[str, Callable[[], object]], rounds: int, parts: int = 1) -> str:
    """Milliseconds of two ways, of each of their equal parts, and how many times faster the second is."""
    first, second = timed(ways, rounds).values()
    one, other = (1e3 * statistics.median(values) / parts for values in (first, second))
    return f"{what}: {one:.2f} and {other:.2f} ms, {how_much_faster(second, first)}"


def how_much_faster(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """How many times less time ours takes, with the spread of rounds."""
    return shown_ratio(ratio(ours, theirs, more_is_better=False))
