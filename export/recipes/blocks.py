"""Blocks of weights with one scale each: search scales, round weights to levels, pack levels to bytes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# The candidate scales are the coarsest one with a level for the largest weight, divided by each of these.
_STEPS = np.array([1.0, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.05, 1.1, 1.15], np.float32)

_HALF = np.finfo(np.float16)

Scales = NDArray[np.float16] | NDArray[np.float32]


def to_blocks(rows: NDArray[np.float32], block_size: int) -> NDArray[np.float32]:
    """Split [N, K] into blocks [N, ceil(K / block_size), block_size], padded with zeros."""
    outputs, inputs = rows.shape
    blocks = -(-inputs // block_size)
    padded = np.zeros((outputs, blocks * block_size), np.float32)
    padded[:, :inputs] = rows
    return padded.reshape(outputs, blocks, block_size)


def find_scales(blocks: NDArray[np.float32], importance: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """Return the scales [N, B] of float32 blocks [N, B, block]. Deterministic.

    The candidates are near (largest magnitude) / 2**(bits - 1), each refitted by least squares. A block keeps the one
    with the least squared error, weighted by each input's `importance` [1, B, block], above zero. Eight bits need no
    search: the first candidate is within a percent of the best.
    """
    half = float(1 << (bits - 1))
    place = np.abs(blocks).argmax(-1, keepdims=True)
    # The level -half has no positive counterpart: the weight of largest magnitude takes it; the scale may be negative.
    coarsest = np.take_along_axis(blocks, place, -1)[..., 0] / np.float32(-half)
    if bits == 8:
        return coarsest
    best, least = coarsest, np.full(coarsest.shape, np.inf, np.float32)
    for step in _STEPS:
        levels = nearest(blocks, (coarsest / step)[..., None], bits)
        weighed = levels * importance
        norm = (weighed * levels).sum(-1)
        scale = np.divide((weighed * blocks).sum(-1), norm, out=np.zeros_like(norm), where=norm > 0)
        error = (np.square(blocks - levels * scale[..., None]) * importance).sum(-1)
        best, least = np.where(error < least, scale, best), np.minimum(error, least)
    return best


def nearest(weights: NDArray[np.float32], scales: Scales, bits: int) -> NDArray[np.float32]:
    """Return the signed levels nearest to `weights` on `scales`, which must broadcast to `weights`."""
    half = float(1 << (bits - 1))
    scale = scales.astype(np.float32)
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=np.abs(scale) > np.finfo(np.float32).tiny)
    levels: NDArray[np.float32] = np.clip(np.rint(weights * inverse), -half, half - 1)
    return levels


def narrow(scales: NDArray[np.float32]) -> Scales:
    """Round `scales` to float16 if all are zero or normal float16 numbers; otherwise return them unchanged."""
    return scales.astype(np.float16) if _fit(scales).all() else scales


def narrow_each(scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round each scale that is zero or a normal float16 number to 16 bits. `narrow` does not change these again."""
    fit, narrowed = _fit(scales), scales.copy()
    narrowed[fit] = scales[fit].astype(np.float16)
    return narrowed


def pack(levels: NDArray[np.float32], bits: int) -> NDArray[np.uint8]:
    """Pack signed levels [N, B, block] to bytes [N, B, block * bits / 8], the even input in the low nibble."""
    codes = (levels + (1 << (bits - 1))).astype(np.uint8)
    return codes if bits == 8 else np.bitwise_or(codes[..., 0::2], np.left_shift(codes[..., 1::2], 4), dtype=np.uint8)


def _fit(scales: NDArray[np.float32]) -> NDArray[np.bool_]:
    sizes = np.abs(scales)
    fit: NDArray[np.bool_] = (sizes == 0) | ((sizes >= _HALF.tiny) & (sizes <= _HALF.max))
    return fit
