"""What top_k, top_p and typical_p keep of a row, without sorting ids: NumPy sorts values with vector instructions.

Sums that decide are the sequential ones of float64 over the candidates in order. They are computed only where a sum by
blocks, which takes a fifth of the time, comes too close to decide.
"""

from __future__ import annotations

import math
from bisect import bisect_left

import numpy as np
import numpy.typing as npt

BLOCK = 256  # places that are added up together

_GROUPS = 16  # for each value wanted: more, and the threshold leaves fewer values to sort

Row = npt.NDArray[np.float32]
Ids = npt.NDArray[np.intp]
Sums = npt.NDArray[np.float64]


def descending(logits: Row, count: int) -> Row:
    """Sort the `count` largest of logits [n], largest first."""
    if count * _GROUPS < len(logits):
        logits = logits[logits >= _threshold(logits, count)]
    values: Row = -logits
    values.sort()
    return np.negative(values, out=values)[:count]


def largest(logits: Row, count: int) -> Ids:
    """Find the ids of the `count` largest of logits [n], largest first, ties by id."""
    if count * _GROUPS < len(logits):
        ids = np.flatnonzero(logits >= _threshold(logits, count))
    else:
        ids = np.arange(len(logits))
    return ids[np.argsort(-logits[ids], kind="stable")][:count]


def _threshold(logits: Row, count: int) -> np.float32:
    """A value that at least `count` logits reach, and few more do: the count-th largest of the maxima of groups."""
    groups = count * _GROUPS
    maxima = logits[: len(logits) // groups * groups].reshape(-1, groups).max(axis=0)
    threshold: np.float32 = np.partition(maxima, groups - count)[groups - count]
    return threshold


def sums_of_blocks(weights: Row) -> Sums:
    """Add up weights [n] to the end of each block of 256: [ceil(n / 256)]."""
    starts = np.arange(0, len(weights), BLOCK)
    return np.cumsum(np.add.reduceat(weights, starts, dtype=np.float64))


def nucleus(weights: Row, mass: float) -> int:
    """Count how many of weights [n], from the first on, it takes to reach `mass`; n + 1 if all do not."""
    sums = sums_of_blocks(weights)
    block = int(sums.searchsorted(mass))
    start = block * BLOCK
    before = sums[block - 1] if block else 0.0
    within = np.cumsum(np.concatenate([[before], weights[start : start + BLOCK]]))
    place = int(within.searchsorted(mass))
    slack = _slack(len(weights)) * mass
    if 0 < place < len(within) and within[place - 1] + slack < mass < within[place] - slack:
        return start + place
    return int(np.cumsum(weights, dtype=np.float64).searchsorted(mass)) + 1


def typical(weights: Row, typical_p: float) -> slice | Ids:
    """Find the locally typical places (arXiv 2202.00666) among descending weights [n], in ascending order.

    These are the places whose surprise is nearest to the entropy, ties by place, until they hold `typical_p`.
    """
    total = float(weights.sum(dtype=np.float64))
    terms, offsets = np.empty((2, len(weights)))  # in one piece: malloc then keeps its pages for the next row
    np.divide(weights, total, out=terms, dtype=np.float64)
    np.maximum(terms, np.finfo(np.float64).tiny, out=offsets)
    np.log(offsets, out=offsets)
    terms *= offsets
    offsets -= terms.sum()  # the entropy minus the surprise: descending, as the weights are
    kept = _nearest(weights, total, offsets, typical_p) if (offsets[1:] <= offsets[:-1]).all() else None
    if kept is not None:
        return kept
    order = np.argsort(np.abs(offsets), kind="stable")
    held = np.cumsum(np.divide(weights, total, dtype=np.float64)[order])
    return np.sort(order[: int(held.searchsorted(typical_p)) + 1])


def _nearest(weights: Row, total: float, offsets: Sums, typical_p: float) -> slice | Ids | None:
    """The places of the smallest offsets that hold `typical_p`; None where rounding or ties could change the answer."""
    count, goal = len(weights), typical_p * total
    sums = np.concatenate([[0.0], sums_of_blocks(weights)])
    ascending = offsets[::-1]

    def before(place: int) -> float:
        block = place // BLOCK
        return float(sums[block] + weights[block * BLOCK : place].sum(dtype=np.float64))

    def held(offset: float) -> float:
        radius = abs(offset)
        first = count - int(ascending.searchsorted(radius, "right"))
        return before(count - int(ascending.searchsorted(-radius, "left"))) - before(first)

    middle = count - int(ascending.searchsorted(0.0, "right"))
    sides = offsets[:middle][::-1], offsets[middle:]  # from the middle out
    reached = [bisect_left(side, goal, key=held) for side in sides]
    radii = [abs(float(side[place])) for side, place in zip(sides, reached, strict=True) if place < len(side)]
    if not radii or not min(radii):
        return None
    radius = min(radii)
    first, inner_first = (count - int(ascending.searchsorted(radius, side)) for side in ("right", "left"))
    inner_end, end = (count - int(ascending.searchsorted(-radius, side)) for side in ("right", "left"))
    if first < inner_first and inner_end < end:
        return None
    each = float(weights[first if first < inner_first else inner_end])
    missing = goal - (before(inner_end) - before(inner_first))
    taken = math.ceil(missing / each)
    slack = _slack(count) * total
    if not missing - (taken - 1) * each > slack < taken * each - missing:
        return None
    if first == inner_first:
        return slice(first, inner_end + taken)
    if first + taken == inner_first:
        return slice(first, inner_end)
    return np.concatenate([np.arange(first, first + taken), np.arange(inner_first, inner_end)])


def _slack(count: int) -> float:
    """How far two sums of so many weights may differ, by the order of their additions, relative to the sum."""
    return 4 * count * float(np.finfo(np.float64).eps)
