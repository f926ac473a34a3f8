"""Choosing tokens: pure functions over one row of logits [vocab_size].

A row is always treated by itself, so its choice cannot depend on its companions in the batch. The filters apply in
the order temperature, top_k, typical_p, top_p, min_p; ties go to the lowest id.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from infrs.core import SamplingParams
from infrs.errors import EngineError

# How many of the largest logits to sort before a nucleus that does not fit in them sorts the whole row.
_NUCLEUS_GUESS = 256

_BLOCK = 256  # places that a draw adds up at once

# Below this a temperature is greedy: float32 scores divided by less overflow.
_MIN_TEMPERATURE = 1e-6

Row = npt.NDArray[np.float32]
Ids = npt.NDArray[np.intp]


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
    if params.top_k or params.typical_p < 1 or params.top_p < 1 or params.min_p:
        ids, weights = candidates(logits, params)
        return int(ids[_draw(weights, generator)])
    return _draw(_weights(logits, logits[best], params.temperature), generator)


def candidates(logits: Row, params: SamplingParams) -> tuple[Ids, Row]:
    """Ids that pass top_k, typical_p, top_p and min_p, most likely first, and their unnormalised probabilities."""
    count = len(logits)
    top = logits.max()
    if params.top_k:
        ids = largest(logits, params.top_k)
    elif params.typical_p == 1 and params.top_p < 1:
        ids = _nucleus_guess(logits, params, top)
    else:
        ids = largest(logits, count)
    weights = _weights(logits[ids], top, params.temperature)
    if params.typical_p < 1:
        kept = _typical(weights, params.typical_p)
        ids, weights = ids[kept], weights[kept]
    if params.top_p < 1:
        whole = weights if params.top_k or params.typical_p < 1 else _weights(logits, top, params.temperature)
        mass = params.top_p * float(whole.sum(dtype=np.float64))
        count = int(np.searchsorted(np.cumsum(weights, dtype=np.float64), mass)) + 1
        ids, weights = ids[:count], weights[:count]
    if params.min_p:
        passed = weights >= np.float32(params.min_p) * weights.max()
        ids, weights = ids[passed], weights[passed]
    return ids, weights


def largest(logits: Row, count: int) -> Ids:
    """Ids of the `count` largest logits, descending, ties by id."""
    if count < len(logits):
        threshold = np.partition(logits, len(logits) - count)[len(logits) - count]
        ids = np.flatnonzero(logits >= threshold)
    else:
        ids = np.arange(len(logits))
    return ids[np.argsort(-logits[ids], kind="stable")][:count]


def _nucleus_guess(logits: Row, params: SamplingParams, top: np.float32) -> Ids:
    """The most likely ids, enough of them to hold top_p: sorting a whole vocabulary costs milliseconds."""
    ids = largest(logits, _NUCLEUS_GUESS)
    held = _weights(logits[ids], top, params.temperature).sum(dtype=np.float64)
    whole = _weights(logits, top, params.temperature).sum(dtype=np.float64)
    return ids if held >= params.top_p * whole else largest(logits, len(logits))


def _typical(weights: Row, typical_p: float) -> npt.NDArray[np.intp]:
    """Places of the locally typical candidates (arXiv 2202.00666), in their present order."""
    probabilities = weights.astype(np.float64) / weights.sum(dtype=np.float64)
    surprise = -np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
    distance = np.abs(surprise - (probabilities * surprise).sum())
    order = np.argsort(distance, kind="stable")
    count = int(np.searchsorted(np.cumsum(probabilities[order]), typical_p)) + 1
    return np.sort(order[:count])


def _weights(logits: Row, top: np.float32, temperature: float) -> Row:
    """exp((logit - top) / temperature): probabilities up to their common divisor, the largest being 1."""
    weights: Row = np.exp((logits - top) * np.float32(1 / temperature))
    return weights


def _draw(weights: Row, generator: np.random.Generator) -> int:
    """A place with a probability proportional to its weight.

    Found by its block first: adding up a whole vocabulary place by place takes ten times as long.
    """
    blocks = np.cumsum(np.add.reduceat(weights, np.arange(0, len(weights), _BLOCK), dtype=np.float64))
    target = generator.random() * blocks[-1]
    block = _place(blocks, target)
    within = np.cumsum(weights[block * _BLOCK : (block + 1) * _BLOCK], dtype=np.float64)
    return block * _BLOCK + _place(within, target - (blocks[block - 1] if block else 0))


def _place(cumulative: npt.NDArray[np.float64], target: float) -> int:
    """The first place whose cumulative weight is beyond the target; at most the last place with any weight."""
    return int(min(cumulative.searchsorted(target, side="right"), cumulative.searchsorted(cumulative[-1])))
