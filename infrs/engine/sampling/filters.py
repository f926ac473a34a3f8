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

_SAME = 1e-9  # distances from the entropy that differ by less may be equal, but for rounding
_GROUPS = 16  # for each value wanted: more, and the threshold leaves fewer values to sort

Row = npt.NDArray[np.float32]
Ids = npt.NDArray[np.intp]
Sums = npt.NDArray[np.float64]
Places = slice | tuple[slice, slice] | Ids


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


def sums_of_blocks(weights: Row | Sums) -> Sums:
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
    count = len(weights) - int(weights[::-1].searchsorted(0, "right"))  # without weights of 0, which have no logarithm
    held, offsets = np.empty((2, count))  # in one piece: malloc then keeps its pages for the next row
    held[:] = weights[:count]
    np.log(held, out=offsets)
    blocks = np.concatenate([[0.0], sums_of_blocks(held)])
    # einsum: np.dot takes threads for arrays of this size.
    offsets -= np.einsum("i,i->", held, offsets) / blocks[-1]  # the entropy minus the surprise, descending
    ascending = offsets[::-1]

    def within(distance: float) -> tuple[int, int]:
        """The first place no further than `distance` from the entropy, and the first one after them."""
        first = count - int(ascending.searchsorted(distance, "right"))
        return first, count - int(ascending.searchsorted(-distance, "left"))

    def before(place: int) -> float:
        return float(blocks[place // BLOCK] + held[place // BLOCK * BLOCK : place].sum())

    def mass(place: int) -> float:
        """What the places hold that are no further from the entropy than this one."""
        first, end = within(abs(float(offsets[place])))
        return before(end) - before(first)

    goal, middle = typical_p * float(blocks[-1]), within(0.0)[0]
    left = range(middle - 1, -1, -1)
    above = bisect_left(left, goal, key=mass)
    # Of the places on the right, nearer ones than these do not reach the goal, and further ones are not needed.
    low = within(float(offsets[left[above - 1]]))[1] if above else middle
    high = within(float(offsets[left[above]]))[1] if above < middle else count
    right = range(low, high)
    below = bisect_left(right, goal, key=mass)
    reached = [*left[above : above + 1], *right[below : below + 1]]
    distances = [abs(float(offsets[place])) for place in reached]
    if not distances or min(distances) <= _SAME:
        return None
    inner, outer = within(min(distances) - _SAME), within(min(distances) + _SAME)
    missing = goal - (before(inner[1]) - before(inner[0]))
    return _extended(inner, outer, held, missing, _slack(count) * float(blocks[-1]))


def _extended(
    inner: tuple[int, int], outer: tuple[int, int], held: Sums, missing: float, slack: float
) -> Places | None:
    """Extend the interval `inner` within `outer` by places that hold `missing`; None if rounding could change them.

    The places between the two are equally far from the entropy, or only rounding makes a difference.
    """
    edge = slice(outer[0], inner[0]) if outer[1] == inner[1] else slice(inner[1], outer[1])
    if (outer[0] < inner[0] and inner[1] < outer[1]) or held[edge.start] > held[edge.stop - 1]:
        return None
    each = float(held[edge.start])
    taken = math.ceil(missing / each)
    if not missing - (taken - 1) * each > slack < taken * each - missing:
        return None
    if edge.start == inner[1]:
        return slice(inner[0], edge.start + taken)
    if edge.start + taken == inner[0]:
        return slice(edge.start, inner[1])
    return slice(edge.start, edge.start + taken), slice(*inner)


def _slack(count: int) -> float:
    """How far two sums of so many weights may differ, by the order of their additions, relative to the sum."""
    return 4 * count * float(np.finfo(np.float64).eps)
