"""Blocks of weights with one scale each: search scales, and round weights to levels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .levels import Levels

# The candidate scales are those that give the largest weight an end of the levels, divided by each of these.
_STEPS = np.array([1.0, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.05, 1.1, 1.15], np.float32)
_STEPS_OF_TWO_ENDS = np.array([1.0, 0.72, 0.84, 0.94, 1.06, 1.15], np.float32)

_HALF = np.finfo(np.float16)

Scales = NDArray[np.float16] | NDArray[np.float32]


def to_blocks(rows: NDArray[np.float32], block_size: int) -> NDArray[np.float32]:
    """Split [N, K] into blocks [N, ceil(K / block_size), block_size], padded with zeros."""
    outputs, inputs = rows.shape
    blocks = -(-inputs // block_size)
    padded = np.zeros((outputs, blocks * block_size), np.float32)
    padded[:, :inputs] = rows
    return padded.reshape(outputs, blocks, block_size)


def find_scales(blocks: NDArray[np.float32], importance: NDArray[np.float32], levels: Levels) -> NDArray[np.float32]:
    """Return the scales [N, B] of float32 blocks [N, B, block]. Deterministic.

    The candidates give the weight of largest magnitude about the level at an end. Each is refitted by least squares. A
    block keeps the one with the least squared error, weighted by each input's `importance` [1, B, block], above zero.
    Eight bits need no search: the first candidate is within a percent of the best.
    """
    place = np.abs(blocks).argmax(-1, keepdims=True)
    largest = np.take_along_axis(blocks, place, -1)[..., 0]
    best = largest / np.float32(levels.ends[0])
    if levels.bits == 8:
        return best
    least = np.full(best.shape, np.inf, np.float32)
    steps = _STEPS if len(levels.ends) == 1 else _STEPS_OF_TWO_ENDS
    for coarsest in [largest / np.float32(end) for end in levels.ends]:
        for step in steps:
            rounded = nearest(blocks, (coarsest / step)[..., None], levels)
            weighed = rounded * importance
            norm = (weighed * rounded).sum(-1)
            scale = np.divide((weighed * blocks).sum(-1), norm, out=np.zeros_like(norm), where=norm > 0)
            error = (np.square(blocks - rounded * scale[..., None]) * importance).sum(-1)
            best, least = np.where(error < least, scale, best), np.minimum(error, least)
    return best


def nearest(weights: NDArray[np.float32], scales: Scales, levels: Levels) -> NDArray[np.float32]:
    """Return the levels nearest to `weights` on `scales`, which must broadcast to `weights`."""
    scale = scales.astype(np.float32)
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=np.abs(scale) > np.finfo(np.float32).tiny)
    return levels.nearest(weights * inverse)


def narrow(scales: NDArray[np.float32]) -> Scales:
    """Round `scales` to float16 if all are zero or normal float16 numbers; otherwise return them unchanged."""
    return scales.astype(np.float16) if _fit(scales).all() else scales


def narrow_each(scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round each scale that is zero or a normal float16 number to 16 bits. `narrow` does not change these again."""
    fit, narrowed = _fit(scales), scales.copy()
    narrowed[fit] = scales[fit].astype(np.float16)
    return narrowed


def _fit(scales: NDArray[np.float32]) -> NDArray[np.bool_]:
    sizes = np.abs(scales)
    fit: NDArray[np.bool_] = (sizes == 0) | ((sizes >= _HALF.tiny) & (sizes <= _HALF.max))
    return fit
