"""Compute percentiles, rates, goodput and ratios of servers from samples."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from infrs.bench.client import Sample

Spread = dict[str, float]  # p50, p90, p99, max


@dataclass(frozen=True, slots=True)
class Limits:
    """A latency target, in seconds. None: no limit."""

    first: float | None = None
    per_token: float | None = None
    total: float | None = None

    def met(self, sample: Sample) -> bool:
        """Return whether a request succeeded within the limits."""
        if sample.error is not None:
            return False
        measured = ((self.first, sample.first), (self.per_token, sample.per_token), (self.total, sample.total))
        return all(limit is None or value is None or value <= limit for limit, value in measured)


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one server at one level in one round, over successful requests. Latencies are in seconds.

    first: to the first text. gap: between two pieces of text. per_token: a request's mean time between tokens.
    goodput: requests within the limits, a second.
    """

    requests: int
    errors: int
    seconds: float
    requests_per_s: float
    input_per_s: float
    output_per_s: float
    goodput: float
    first: Spread = field(default_factory=dict)
    gap: Spread = field(default_factory=dict)
    per_token: Spread = field(default_factory=dict)
    total: Spread = field(default_factory=dict)

    def value(self, name: str) -> float:
        """Return a figure by its dotted name, such as `output_per_s` or `first.p50`; NaN if there is none."""
        name, _, part = name.partition(".")
        value = getattr(self, name)
        return float(value.get(part, math.nan)) if part else float(value)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile of at least one value, interpolated between the closest ranks, as in numpy."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below, above = ordered[math.floor(place)], ordered[math.ceil(place)]
    return below + (above - below) * (place - math.floor(place))


def spread(values: Iterable[float]) -> Spread:
    """Return p50, p90, p99 and max; empty for no values."""
    ordered = sorted(values)
    if not ordered:
        return {}
    return {f"p{percent}": percentile(ordered, percent) for percent in (50, 90, 99)} | {"max": ordered[-1]}


def figures(samples: Sequence[Sample], limits: Limits) -> Figures:
    """Return the figures of one round, which lasts from the first request to the end of the last answer."""
    good = [sample for sample in samples if sample.error is None]
    seconds = max((s.ended for s in samples), default=0.0) - min((s.due for s in samples), default=0.0)
    per_second = 1 / seconds if seconds > 0 else 0.0
    return Figures(
        requests=len(samples),
        errors=len(samples) - len(good),
        seconds=seconds,
        requests_per_s=len(good) * per_second,
        input_per_s=sum(sample.num_input for sample in good) * per_second,
        output_per_s=sum(sample.num_output for sample in good) * per_second,
        goodput=sum(limits.met(sample) for sample in samples) * per_second,
        first=spread(sample.first for sample in good if sample.arrivals),
        gap=spread(gap for sample in good for gap in sample.gaps),
        per_token=spread(pace for sample in good if (pace := sample.per_token) is not None),
        total=spread(sample.total for sample in good),
    )


@dataclass(frozen=True, slots=True)
class Ratio:
    """The ratio of two servers over interleaved rounds: of the medians, and the range over the rounds."""

    median: float
    low: float
    high: float


def ratio(ours: Sequence[float], theirs: Sequence[float], *, more_is_better: bool = True) -> Ratio | None:
    """Return how many times better `ours` is: above 1 if better. None if a figure is missing or zero."""
    if not ours or not all(math.isfinite(value) and value > 0 for value in (*ours, *theirs)):
        return None
    power = 1 if more_is_better else -1
    pairs = [(a / b) ** power for a, b in zip(ours, theirs, strict=True)]
    return Ratio((statistics.median(ours) / statistics.median(theirs)) ** power, min(pairs), max(pairs))
