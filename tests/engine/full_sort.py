"""A slow and simple sampler that sorts all ids of a row. The sampler of infrs must give the same bits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from infrs.core import SamplingParams
from infrs.engine.sampling.filters import sums_of_blocks
from infrs.engine.sampling.sampler import _draw as draw
from infrs.engine.sampling.sampler import _weights as weights_of

Row = npt.NDArray[np.float32]
Ids = npt.NDArray[np.intp]

_FEW = 256  # the largest logits, which are sorted first


def sample(logits: Row, params: SamplingParams, generator: np.random.Generator) -> int:
    """Return a token id for logits [vocab_size] with a finite maximum, filtered as `params` say."""
    ids, weights = candidates(logits, params)
    return int(ids[draw(weights, sums_of_blocks(weights), generator.random())])


def candidates(logits: Row, params: SamplingParams) -> tuple[Ids, Row]:
    """Return the ids that pass top_k, typical_p, top_p and min_p, most likely first, and their weights.

    The weights are probabilities that are not normalised.
    """
    count = len(logits)
    top = logits.max()
    if params.top_k:
        ids = largest(logits, params.top_k)
    elif params.typical_p == 1 and params.top_p < 1:
        ids = _nucleus(logits, params, top)
    else:
        ids = largest(logits, count)
    weights = weights_of(logits[ids], top, params.temperature)
    if params.typical_p < 1:
        kept = _typical(weights, params.typical_p)
        ids, weights = ids[kept], weights[kept]
    if params.top_p < 1:
        whole = weights if params.top_k or params.typical_p < 1 else weights_of(logits, top, params.temperature)
        mass = params.top_p * float(whole.sum(dtype=np.float64))
        count = int(np.searchsorted(np.cumsum(weights, dtype=np.float64), mass)) + 1
        ids, weights = ids[:count], weights[:count]
    if params.min_p:
        passed = weights >= np.float32(params.min_p) * weights.max()
        ids, weights = ids[passed], weights[passed]
    return ids, weights


def largest(logits: Row, count: int) -> Ids:
    """Return the ids of the `count` largest logits, descending, ties by id."""
    if count < len(logits):
        threshold = np.partition(logits, len(logits) - count)[len(logits) - count]
        ids = np.flatnonzero(logits >= threshold)
    else:
        ids = np.arange(len(logits))
    return ids[np.argsort(-logits[ids], kind="stable")][:count]


def _nucleus(logits: Row, params: SamplingParams, top: np.float32) -> Ids:
    """Return the most likely ids, with a mass of at least top_p. Sorting a whole vocabulary takes milliseconds."""
    ids = largest(logits, _FEW)
    mass = weights_of(logits[ids], top, params.temperature).sum(dtype=np.float64)
    whole = weights_of(logits, top, params.temperature).sum(dtype=np.float64)
    return ids if mass >= params.top_p * whole else largest(logits, len(logits))


def _typical(weights: Row, typical_p: float) -> npt.NDArray[np.intp]:
    """Return the places of the locally typical candidates (arXiv 2202.00666), in their present order."""
    probabilities = weights.astype(np.float64) / weights.sum(dtype=np.float64)
    surprise = -np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
    distance = np.abs(surprise - (probabilities * surprise).sum())
    order = np.argsort(distance, kind="stable")
    count = int(np.searchsorted(np.cumsum(probabilities[order]), typical_p)) + 1
    return np.sort(order[:count])
