"""Arrival times of requests in an open loop."""

from __future__ import annotations

import random


def poisson(rate: float, count: int, seed: int | str) -> list[float]:
    """Return `count` arrival times, in seconds, of a Poisson process with `rate` arrivals a second.

    All gaps are exponential, the first one too.
    """
    generator = random.Random(seed)  # noqa: S311  # not a secret
    times, now = [], 0.0
    for _ in range(count):
        now += generator.expovariate(rate)
        times.append(now)
    return times
