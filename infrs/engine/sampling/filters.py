"""What top_k, top_p and typical_p keep of a row, without sorting ids: NumPy sorts values with vector instructions.

Sums that decide are the sequential ones of float64 over the candidates in order. They are computed only where a sum by
blocks, which takes a fifth of the time, comes too close to decide.
"""

from __future__ import annotations

import math
from bisect import bisect_left

import numpy as np
import numpy.typing as npt

from infrs.native.sampling_weights import BLOCK, weigh_logarithms

_SAME = 1e-9  # distances from the entropy that differ by less may be equal, but for rounding
_GROUPS = 16  # for each value wanted: more, and the threshold leaves fewer values to sort

Row = npt.NDArray[np.float32]
Ids = npt.NDArray[np.intp]
Sums = npt.NDArray[np.float64]
NO_SUMS: Sums = np.empty(0)
Places = slice | tuple[slice, slice] | Ids


def descending(logits: Row, count: int) -> Row:
    """Sort the `count` largest of logits [n], largest first."""
    if count * _GROUPS < len(logits):
        threshold = _threshold(logits, count)
        above = logits[logits > threshold]  # many may equal it
        logits = np.concatenate([above, np.full(max(0, count - len(above)), threshold)])
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


def sums_of_blocks(weights: Row, longer: Sums = NO_SUMS) -> Sums:
    """Add up weights [n] to the end of each block of 256: [ceil(n / 256)].

    longer: these sums of a longer row that begins with the weights, from which those of whole blocks are taken.
    """
    known = longer[: len(weights) // BLOCK]
    starts = np.arange(len(known) * BLOCK, len(weights), BLOCK)
    sums = np.add.reduceat(weights, starts, dtype=np.float64)
    return np.concatenate([known[:-1], np.cumsum(np.concatenate([known[-1:], sums]))])


def nucleus(weights: Row, sums: Sums, top_p: float, total: float | None = None) -> int:
    """Count how many of weights [n], from the first on, it takes to reach `top_p` of the total; n + 1 if all do not.

    sums: those of their blocks. total: by default the sum of the weights.
    """
    mass = top_p * float(sums[-1] if total is None else total)
    block = int(sums.searchsorted(mass))
    start = block * BLOCK
    before = sums[block - 1] if block else 0.0
    within = np.cumsum(np.concatenate([[before], weights[start : start + BLOCK]]))
    place = int(within.searchsorted(mass))
    slack = _slack(len(weights)) * mass
    if 0 < place < len(within) and within[place - 1] + slack < mass < within[place] - slack:
        return start + place
    mass = top_p * float(weights.sum(dtype=np.float64) if total is None else total)
    return int(np.cumsum(weights, dtype=np.float64).searchsorted(mass)) + 1


def at_least(weights: Row, least: np.float32) -> Places:
    """Find the places of weights of at least `least`; they are the first ones if the weights descend."""
    passed = weights >= least
    count = int(np.count_nonzero(passed))
    return slice(count) if passed[:count].all() else np.flatnonzero(passed)


def typical(weights: Row, typical_p: float) -> Places:
    """Find the locally typical places (arXiv 2202.00666) among descending weights [n], in ascending order.

    These are the places with a surprise nearest to the entropy, ties by place, until they hold `typical_p`.
    """
    kept = _around_entropy(weights, typical_p)
    if kept is not None:
        return kept
    probabilities = np.divide(weights, weights.sum(dtype=np.float64), dtype=np.float64)
    surprise = -np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
    order = np.argsort(np.abs(surprise - (probabilities * surprise).sum()), kind="stable")
    return np.sort(order[: int(np.cumsum(probabilities[order]).searchsorted(typical_p)) + 1])


def pick(row: Row, places: Places) -> Row:
    """Take the values of a row at some places; slices are many times as fast as ids."""
    return np.concatenate([row[part] for part in places]) if isinstance(places, tuple) else row[places]


def _around_entropy(weights: Row, typical_p: float) -> Places | None:
    """Do as `typical` without a sort; None if rounding could change the answer.

    The entropy minus the surprise is a weight's logarithm minus their mean. The weights descend, so the places within a
    distance of the entropy are an interval.
    """
    if (weights[1:] > weights[:-1]).any():  # exp of neighbours is not always in their order
        return None
    # Without weights of 0, which have no logarithm. A 0 of another type makes NumPy copy the row.
    count = len(weights) - int(weights[::-1].searchsorted(np.float32(0), "right"))
    held = weights[:count]
    ascending = held[::-1]
    sums, logarithms = weigh_logarithms(held)
    blocks: list[float] = [0.0, *np.cumsum(sums).tolist()]
    mean = logarithms / blocks[-1]

    def distance(place: int) -> float:
        """Return the distance of a place from the entropy, rounded up so that the place is within it."""
        return abs(math.log(held[place]) - mean) + _SAME / 100

    def within(distance: float) -> tuple[int, int]:
        """Return the first place within `distance` of the entropy, and the first one after those."""
        largest, least = math.exp(min(mean + distance, 1.0)), math.exp(mean - distance)  # no weight is above 1
        first = ascending.searchsorted(_rounded(largest, 0.0), "right")
        return count - int(first), count - int(ascending.searchsorted(_rounded(least, 2.0)))

    def before(place: int) -> float:
        block = place // BLOCK
        return blocks[block] + float(held[block * BLOCK : place].sum(dtype=np.float64))

    def mass(place: int) -> float:
        """Return the mass of the places as near to the entropy as this one; that of whole blocks if it decides."""
        first, end = within(distance(place))
        least = blocks[end // BLOCK] - blocks[-(-first // BLOCK)]
        most = blocks[-(-end // BLOCK)] - blocks[first // BLOCK]
        return least if least >= goal else most if most < goal else before(end) - before(first)

    goal, middle = typical_p * blocks[-1], within(0.0)[0]
    left = range(middle - 1, -1, -1)
    above = bisect_left(left, goal, key=mass)
    # Of the places on the right, nearer ones than these do not reach the goal, and further ones are not needed.
    low = within(distance(left[above - 1]))[1] if above else middle
    high = within(distance(left[above]))[1] if above < middle else count
    right = range(low, high)
    below = bisect_left(right, goal, key=mass)
    distances = [distance(place) for place in (*left[above : above + 1], *right[below : below + 1])]
    if not distances or min(distances) <= _SAME:
        return None
    inner, outer = within(min(distances) - _SAME), within(min(distances) + _SAME)
    missing = goal - (before(inner[1]) - before(inner[0]))
    return _extended(inner, outer, held, missing, _slack(count) * blocks[-1])


def _rounded(number: float, towards: float) -> np.float32:
    """Round a number to float32 in one direction, which changes no comparison of it with float32 numbers."""
    nearest = np.float32(number)
    is_there = (float(nearest) - number) * (towards - number) >= 0
    return nearest if is_there else np.nextafter(nearest, np.float32(towards))


def _extended(inner: tuple[int, int], outer: tuple[int, int], held: Row, missing: float, slack: float) -> Places | None:
    """Extend the interval `inner` within `outer` by places that hold `missing`; None if rounding could change them.

    The places between the two are equally far from the entropy, or only rounding makes a difference.
    """
    edge = slice(outer[0], inner[0]) if outer[1] == inner[1] else slice(inner[1], outer[1])
    if (outer[0] < inner[0] and inner[1] < outer[1]) or held[edge.start] > held[edge.stop - 1]:
        return None
    each = float(held[edge.start])
    taken = math.ceil(missing / each)
    if not (missing - (taken - 1) * each > slack < taken * each - missing and 0 < taken <= edge.stop - edge.start):
        return None
    if edge.start == inner[1]:
        return slice(inner[0], edge.start + taken)
    if edge.start + taken == inner[0]:
        return slice(edge.start, inner[1])
    return slice(edge.start, edge.start + taken), slice(*inner)


def _slack(count: int) -> float:
    """How far two sums of so many weights may differ, by the order of their additions, relative to the sum."""
    return 4 * count * float(np.finfo(np.float64).eps)
