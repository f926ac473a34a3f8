"""Choosing tokens: pure functions over one row of logits [vocab_size].

A row is always treated by itself, so its choice cannot depend on its companions in the batch. The filters apply in
the order temperature, top_k, top_p, min_p; ties go to the lowest id.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from infrs.core import SamplingParams
from infrs.errors import EngineError

# How many of the largest logits to sort before a nucleus that does not fit in them sorts the whole row.
_NUCLEUS_GUESS = 256


class NumericalError(EngineError):
    """The model's scores are not finite."""

    code = "numerical_error"


def new_generator(seed: int | None) -> np.random.Generator:
    """A request's own source of uniforms (Philox, keyed by the seed): one draw a token, whoever shares the batch."""
    key = None if seed is None else seed & 0xFFFFFFFFFFFFFFFF
    return np.random.Generator(np.random.Philox(key=key))


def sample(logits: npt.NDArray[np.float32], params: SamplingParams, generator: np.random.Generator) -> int:
    """One token id for float32 logits [vocab_size].

    Raises NumericalError if the largest logit is not finite.
    """
    best = int(logits.argmax())
    if not np.isfinite(logits[best]):
        raise NumericalError(
            "the model's scores are not finite; if it happens again, export the model again in float32"
        )
    if params.temperature == 0 or params.top_k == 1:
        return best
    if not (params.top_k or params.top_p < 1 or params.min_p):
        ids, weights = None, _weights(logits, logits[best], params.temperature)
    else:
        ids, weights = candidates(logits, params)
    cumulative = np.cumsum(weights, dtype=np.float64)
    index = int(np.searchsorted(cumulative, generator.random() * cumulative[-1], side="right"))
    index = min(index, len(cumulative) - 1)
    return index if ids is None else int(ids[index])


def candidates(
    logits: npt.NDArray[np.float32], params: SamplingParams
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Ids that pass top_k, top_p and min_p, most likely first, and their unnormalised probabilities."""
    count = len(logits)
    if params.top_k:
        ids = _largest(logits, min(params.top_k, count))
    elif params.top_p < 1:
        ids = _largest(logits, min(_NUCLEUS_GUESS, count))
    else:
        ids = np.arange(count)
    top = logits.max()
    weights = _weights(logits[ids], top, params.temperature)
    if params.top_p < 1:
        total = float(weights.sum(dtype=np.float64))
        if not params.top_k:
            total = float(_weights(logits, top, params.temperature).sum(dtype=np.float64))
            if float(weights.sum(dtype=np.float64)) < params.top_p * total:
                ids = _largest(logits, count)
                weights = _weights(logits[ids], top, params.temperature)
        kept = int(np.searchsorted(np.cumsum(weights, dtype=np.float64), params.top_p * total)) + 1
        ids, weights = ids[:kept], weights[:kept]
    if params.min_p:
        passed = weights >= params.min_p  # the largest weight is exp(0) = 1
        ids, weights = ids[passed], weights[passed]
    return ids, weights


def _weights(logits: npt.NDArray[np.float32], top: np.float32, temperature: float) -> npt.NDArray[np.float32]:
    """exp((logit - top) / temperature): probabilities up to their common divisor, the largest being 1."""
    weights: npt.NDArray[np.float32] = np.exp((logits - top) * np.float32(1 / temperature))
    return weights


def _largest(logits: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.intp]:
    """Ids of the `count` largest logits, descending, ties by id."""
    if count < len(logits):
        threshold = np.partition(logits, len(logits) - count)[len(logits) - count]
        ids = np.flatnonzero(logits >= threshold)
    else:
        ids = np.arange(len(logits))
    return ids[np.argsort(-logits[ids], kind="stable")][:count]
