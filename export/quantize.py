"""Block-wise symmetric weight quantisation, in the layout of ONNX Runtime's MatMulNBits and GatherBlockQuantized."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_CHUNK = 1 << 18  # weights worked on at a time, so that the temporaries stay in the cache: twice as fast as 2**20

# Candidate scales: the coarsest one that has a level for the largest weight, over each of these.
_STEPS = np.array([1.0, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.05, 1.1, 1.15], np.float32)

_HALF = np.finfo(np.float16)


@dataclass(frozen=True)
class Quantized:
    """`weight ≈ scales[:, block] * (values - 2**(bits - 1))`, blocks of `block_size` along the inputs.

    values: uint8 [N, ceil(K / block_size), block_size * bits / 8]; at 4 bits the even input is the low nibble.
    scales: [N, ceil(K / block_size)], float16, or float32 where those would lose precision. Inputs beyond K are zeros.
    """

    values: NDArray[np.uint8]
    scales: NDArray[np.float16] | NDArray[np.float32]
    bits: int
    block_size: int


def quantize(
    weight: NDArray[np.float32], bits: int, block_size: int, importance: NDArray[np.float32] | None = None
) -> Quantized:
    """Round `weight` [N, K] to `bits` (4 or 8) with one scale a block. Deterministic; never writes to `weight`.

    Of a few candidate scales about (largest magnitude) / 2**(bits - 1), each refitted by least squares, a block
    keeps the one of least squared error, weighed by each input's `importance` [K], above zero. Eight bits need no
    search: the first candidate is within a percent of it.
    """
    outputs, inputs = weight.shape
    blocks = -(-inputs // block_size)
    values = np.empty((outputs, blocks, block_size * bits // 8), np.uint8)
    scales = np.empty((outputs, blocks), np.float32)
    weighing = to_blocks(np.ones((1, inputs), np.float32) if importance is None else importance[None], block_size)
    rows = max(1, _CHUNK // max(1, blocks * block_size))
    parts = [slice(start, start + rows) for start in range(0, outputs, rows)]

    def search(part: slice) -> None:
        scales[part] = _scales(to_blocks(weight[part], block_size), weighing, bits)

    def pick(part: slice) -> None:
        values[part] = pack(nearest(to_blocks(weight[part], block_size), stored[part], bits), bits)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # numpy releases the GIL
        list(pool.map(search, parts))
        stored = narrow(scales)  # before the levels are picked, which then are the best for what is stored
        list(pool.map(pick, parts))
    return Quantized(values, stored, bits, block_size)


def narrow(scales: NDArray[np.float32]) -> NDArray[np.float16] | NDArray[np.float32]:
    """`scales` in 16 bits, rounded, if all of them are zero or within the range of their full precision there."""
    sizes = np.abs(scales)
    fit = (sizes == 0) | ((sizes >= _HALF.tiny) & (sizes <= _HALF.max))
    return scales.astype(np.float16) if fit.all() else scales


def dequantize(quantized: Quantized, inputs: int) -> NDArray[np.float32]:
    """The float32 weights [N, inputs] that the kernels compute with."""
    values = quantized.values
    if quantized.bits == 4:
        values = np.stack([values & 15, values >> 4], axis=-1).reshape(*values.shape[:2], -1)
    levels = values.astype(np.float32) - float(1 << (quantized.bits - 1))
    weight: NDArray[np.float32] = levels * quantized.scales[..., None].astype(np.float32)
    return weight.reshape(len(weight), -1)[:, :inputs]


def to_blocks(rows: NDArray[np.float32], block_size: int) -> NDArray[np.float32]:
    """[N, K] as [N, ceil(K / block_size), block_size], filled up with zeros."""
    outputs, inputs = rows.shape
    blocks = -(-inputs // block_size)
    padded = np.zeros((outputs, blocks * block_size), np.float32)
    padded[:, :inputs] = rows
    return padded.reshape(outputs, blocks, block_size)


def nearest(
    blocks: NDArray[np.float32], scales: NDArray[np.float16] | NDArray[np.float32], bits: int
) -> NDArray[np.float32]:
    """The signed levels [N, B, block] that come closest to float32 blocks [N, B, block] with scales [N, B]."""
    half = float(1 << (bits - 1))
    scale = scales[..., None].astype(np.float32)
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=np.abs(scale) > np.finfo(np.float32).tiny)
    levels: NDArray[np.float32] = np.clip(np.rint(blocks * inverse), -half, half - 1)
    return levels


def pack(levels: NDArray[np.float32], bits: int) -> NDArray[np.uint8]:
    """Signed levels [N, B, block] as `Quantized.values`."""
    codes = (levels + (1 << (bits - 1))).astype(np.uint8)
    return codes if bits == 8 else np.bitwise_or(codes[..., 0::2], np.left_shift(codes[..., 1::2], 4), dtype=np.uint8)


def _scales(blocks: NDArray[np.float32], weighing: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """Scales [N, B] of float32 blocks [N, B, block]; weighing: of the squared errors [1, B, block]."""
    half = float(1 << (bits - 1))
    place = np.abs(blocks).argmax(-1, keepdims=True)
    # The level -half has no positive counterpart: the weight of largest magnitude takes it; the scale may be negative.
    coarsest = np.take_along_axis(blocks, place, -1)[..., 0] / np.float32(-half)
    if bits == 8:
        return coarsest
    best, least = coarsest, np.full(coarsest.shape, np.inf, np.float32)
    for step in _STEPS:
        levels = nearest(blocks, coarsest / step, bits)
        weighed = levels * weighing
        norm = (weighed * levels).sum(-1)
        scale = np.divide((weighed * blocks).sum(-1), norm, out=np.zeros_like(norm), where=norm > 0)
        error = (np.square(blocks - levels * scale[..., None]) * weighing).sum(-1)
        best, least = np.where(error < least, scale, best), np.minimum(error, least)
    return best
