"""Block-wise symmetric weight quantisation, in the layout of ONNX Runtime's MatMulNBits and GatherBlockQuantized."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_CHUNK = 1 << 18  # weights worked on at a time, so that the temporaries stay in the cache: twice as fast as 2**20

# Candidate scales, as fractions of the coarsest: half a percent in squared error from what 15 of them reach.
_STEPS = np.array([1.0, 0.85, 0.9, 0.95, 1.05, 1.1], np.float32)


@dataclass(frozen=True)
class Quantized:
    """`weight ≈ scales[:, block] * (values - 2**(bits - 1))`, blocks of `block_size` along the inputs.

    values: uint8 [N, ceil(K / block_size), block_size * bits / 8]; at 4 bits the even input is the low nibble.
    scales: float32 [N, ceil(K / block_size)]. Inputs beyond K are zeros.
    """

    values: NDArray[np.uint8]
    scales: NDArray[np.float32]
    bits: int
    block_size: int


def quantize(weight: NDArray[np.float32], bits: int, block_size: int) -> Quantized:
    """Round `weight` [N, K] to `bits` (4 or 8) with one scale a block. Deterministic; never writes to `weight`.

    Of a few candidate scales about (largest magnitude) / 2**(bits - 1), each refitted by least squares, a block
    keeps the one of least squared error. Eight bits need no search: the first candidate is within a percent of it.
    """
    outputs, inputs = weight.shape
    blocks = -(-inputs // block_size)
    values = np.empty((outputs, blocks, block_size * bits // 8), np.uint8)
    scales = np.empty((outputs, blocks), np.float32)
    step = max(1, _CHUNK // max(1, blocks * block_size))

    def part(start: int) -> None:
        rows = np.asarray(weight[start : start + step], np.float32)
        padded = np.zeros((len(rows), blocks * block_size), np.float32)
        padded[:, :inputs] = rows
        stop = start + len(rows)
        levels, scales[start:stop] = _round(padded.reshape(len(rows), blocks, block_size), bits)
        codes = (levels + (1 << (bits - 1))).astype(np.uint8)
        values[start:stop] = codes if bits == 8 else codes[..., 0::2] | (codes[..., 1::2] << 4)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # numpy releases the GIL
        for _ in pool.map(part, range(0, outputs, step)):
            pass
    return Quantized(values, scales, bits, block_size)


def dequantize(quantized: Quantized, inputs: int) -> NDArray[np.float32]:
    """The float32 weights [N, inputs] that the kernels compute with."""
    values = quantized.values
    if quantized.bits == 4:
        values = np.stack([values & 15, values >> 4], axis=-1).reshape(*values.shape[:2], -1)
    levels = values.astype(np.float32) - float(1 << (quantized.bits - 1))
    weight: NDArray[np.float32] = levels * quantized.scales[..., None]
    return weight.reshape(len(weight), -1)[:, :inputs]


def _round(blocks: NDArray[np.float32], bits: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Signed levels [N, B, block] and scales [N, B] of float32 blocks [N, B, block]."""
    half = float(1 << (bits - 1))
    place = np.abs(blocks).argmax(-1, keepdims=True)
    # The level -half has no positive counterpart: the weight of largest magnitude takes it; the scale may be negative.
    extreme = np.take_along_axis(blocks, place, -1)
    candidates = (half,) if bits == 8 else tuple(half * _STEPS)
    levels, scale = _fit(blocks, extreme, -candidates[0], half, refit=bits != 8)
    if len(candidates) == 1:
        return levels, scale[..., 0]
    error = _squared_error(blocks, levels, scale)
    for divisor in candidates[1:]:
        other_levels, other_scale = _fit(blocks, extreme, -divisor, half, refit=True)
        other_error = _squared_error(blocks, other_levels, other_scale)
        better = other_error < error
        levels = np.where(better, other_levels, levels)
        scale = np.where(better, other_scale, scale)
        error = np.minimum(error, other_error)
    return levels, scale[..., 0]


def _fit(
    blocks: NDArray[np.float32], extreme: NDArray[np.float32], divisor: float, half: float, *, refit: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Levels for the scale `extreme / divisor`, and that scale or the best one for those levels."""
    scale = extreme / np.float32(divisor)
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=np.abs(scale) > np.finfo(np.float32).tiny)
    levels = np.clip(np.rint(blocks * inverse), -half, half - 1)
    if refit:
        norm = np.square(levels).sum(-1, keepdims=True)
        scale = np.divide((blocks * levels).sum(-1, keepdims=True), norm, out=np.zeros_like(scale), where=norm > 0)
    return levels, scale


def _squared_error(
    blocks: NDArray[np.float32], levels: NDArray[np.float32], scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    error: NDArray[np.float32] = np.square(blocks - levels * scale).sum(-1, keepdims=True)
    return error
