"""Choosing tokens: pure functions over one row of logits [vocab_size].

A row is always treated by itself, so its choice cannot depend on its companions in the batch. The filters apply in
the order temperature, top_k, typical_p, top_p, min_p; ties go to the lowest id.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from infrs.core import SamplingParams
from infrs.engine.sampling.filters import (
    NO_SUMS,
    Row,
    Sums,
    at_least,
    descending,
    nucleus,
    pick,
    sums_of_blocks,
    typical,
)
from infrs.errors import EngineError
from infrs.native.draws import draw
from infrs.native.sampling_weights import BLOCK

# How many of the largest logits to sort before a nucleus that does not fit in them sorts the whole row.
_NUCLEUS_GUESS = 256

# A row is sorted if at most this many logits pass.
_FEW = 512
_NO_FILTERS = (0, 1, 1, 0)  # top_k, typical_p, top_p, min_p

# Below this a temperature is greedy: float32 scores divided by less overflow.
_MIN_TEMPERATURE = 1e-6


class NumericalError(EngineError):
    """The model's scores are not finite."""

    code = "numerical_error"

    def __init__(self) -> None:
        super().__init__("the model's scores are not finite; if it happens again, export the model in float32")


def new_generator(seed: int | None, index: int = 0) -> np.random.Generator:
    """An answer's own source of uniforms, one draw a token: Philox, keyed by the request's seed and its index."""
    key = None if seed is None else (seed & 0xFFFFFFFFFFFFFFFF) | index << 64
    return np.random.Generator(np.random.Philox(key=key))


def sample(logits: Row, params: SamplingParams, generator: np.random.Generator, best: int | None = None) -> int:
    """One token id for float32 logits [vocab_size]. `best`: their argmax, where it is known.

    Raises NumericalError if the largest logit is not finite.
    """
    if best is None:
        best = int(logits.argmax())
    if not math.isfinite(logits[best]):
        raise NumericalError
    if params.temperature < _MIN_TEMPERATURE or params.top_k == 1:
        return best
    uniform, top = generator.random(), logits[best]
    filters = params.top_k, params.typical_p, params.top_p, params.min_p
    if filters == _NO_FILTERS:
        weights = _weights(logits, top, params.temperature)
        return _draw(weights, sums_of_blocks(weights), uniform)
    if not _few_pass(logits, top, params):
        token_id = draw(logits, _weights(logits, top, params.temperature), filters, params.temperature, uniform)
        if token_id is not None:
            return token_id
    values, weights, sums = candidates(logits, params)
    return _id_at(logits, values, _draw(weights, sums, uniform))


def _few_pass(logits: Row, top: np.float32, params: SamplingParams) -> bool:
    """Return whether top_k or min_p alone leaves so few logits that a sort of them is fast."""
    if params.top_k:
        count = params.top_k
    elif params.typical_p < 1 or params.top_p < 1:
        return False
    else:
        count = int(np.count_nonzero(logits >= top + params.temperature * math.log(params.min_p)))
    return count <= _FEW


def candidates(logits: Row, params: SamplingParams) -> tuple[Row, Row, Sums]:
    """Find the logits that pass top_k, typical_p, top_p and min_p, largest first, with their weights.

    The weights are probabilities that are not normalised; their `sums_of_blocks` are the third result.
    They are values without ids, which are slow to sort. Of equal logits, those with the lowest ids pass and come first.
    """
    top, total = logits.max(), None

    def largest(count: int, of: Row = logits) -> tuple[Row, Row]:
        values = descending(of, count)
        return values, _weights(values, top, params.temperature)

    if params.top_k or params.typical_p < 1:
        values, weights = largest(params.top_k or len(logits))
        if params.typical_p < 1:
            kept = typical(weights, params.typical_p)
            values, weights = pick(values, kept), pick(weights, kept)
    elif params.top_p < 1:
        total = float(_weights(logits, top, params.temperature).sum(dtype=np.float64))
        values, weights = largest(_NUCLEUS_GUESS)
        if weights.sum(dtype=np.float64) < params.top_p * total:
            values, weights = largest(len(logits))
    else:
        passed = _weights(logits, top, params.temperature) >= np.float32(params.min_p)
        # To sort all is faster than to select many.
        some = logits[passed] if np.count_nonzero(passed) < len(logits) // 4 else logits
        values, weights = largest(len(some), some)
    sums = NO_SUMS
    if params.top_p < 1:
        sums = sums_of_blocks(weights)
        count = nucleus(weights, sums, params.top_p, total)
        values, weights = values[:count], weights[:count]
    if params.min_p:
        kept = at_least(weights, np.float32(params.min_p) * weights.max())
        values, weights = pick(values, kept), pick(weights, kept)
        sums = sums if isinstance(kept, slice) else NO_SUMS
    return values, weights, sums_of_blocks(weights, sums)


def _id_at(logits: Row, values: Row, place: int) -> int:
    """The id of the candidate at a place."""
    value = values[place]
    first = len(values) - int(values[::-1].searchsorted(value, side="right"))
    return int(np.flatnonzero(logits == value)[place - first])


def _weights(logits: Row, top: np.float32, temperature: float) -> Row:
    """exp((logit - top) / temperature): probabilities up to their common divisor, the largest being 1."""
    weights: Row = logits - top
    if temperature != 1:
        weights *= np.float32(1 / temperature)
    return np.exp(weights, out=weights)


def _draw(weights: Row, blocks: Sums, uniform: float) -> int:
    """Draw a place with a probability proportional to its weight.

    Found by its block first: adding up a whole vocabulary place by place takes ten times as long.
    """
    target = uniform * blocks[-1]
    block = _place(blocks, target)
    within = np.cumsum(weights[block * BLOCK : (block + 1) * BLOCK], dtype=np.float64)
    return block * BLOCK + _place(within, target - (blocks[block - 1] if block else 0))


def _place(cumulative: npt.NDArray[np.float64], target: float) -> int:
    """Return the first place with a cumulative weight above the target, at most the last place with any weight."""
    return int(min(cumulative.searchsorted(target, side="right"), cumulative.searchsorted(cumulative[-1])))
