"""Block-wise weight quantisation, in the layout of ONNX Runtime's MatMulNBits and GatherBlockQuantized."""

from __future__ import annotations

import os
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .blocks import Scales, find_scales, narrow, nearest, to_blocks
from .gptq import followers, round_with_feedback
from .levels import Levels

Values = NDArray[np.uint8]

_CHUNK = 1 << 18  # weights per task; temporaries stay in the CPU's cache: twice as fast as 2**20
_FEEDBACK_CHUNK = 1 << 21  # larger, because each column takes a few calls of numpy with a fixed cost


@dataclass(frozen=True)
class Quantized:
    """`weight ≈ scales[:, block] * levels`, blocks of `block_size` along the inputs.

    values: numbers of levels, uint8 [N, ceil(K / block_size), block_size * bits / 8]; at 4 bits the even input is the
    low nibble. scales: [N, ceil(K / block_size)], float16, or float32 if float16 would lose precision. Inputs beyond K
    are about zero.
    """

    values: Values
    scales: Scales
    levels: Levels
    block_size: int


def quantize(
    weight: NDArray[np.float32], levels: Levels, block_size: int, moments: NDArray[np.float32] | None = None
) -> Quantized:
    """Round `weight` [N, K] to levels with one scale a block. Deterministic; never writes to `weight`.

    moments: the Hessian of the inputs from `calibration`. With it, errors are weighted by the inputs, and GPTQ
    compensates for them. Without it, all inputs count equally and independently.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # numpy releases the GIL
        values, scales = (
            _each_alone(weight, levels, block_size, pool)
            if moments is None
            else _with_feedback(weight, moments, levels, block_size, pool)
        )
    return Quantized(values, scales, levels, block_size)


def dequantize(quantized: Quantized, inputs: int) -> NDArray[np.float32]:
    """Return the float32 weights [N, inputs] that the kernels compute with."""
    levels = quantized.levels.unpack(quantized.values)
    weight: NDArray[np.float32] = levels * quantized.scales[..., None].astype(np.float32)
    return weight.reshape(len(weight), -1)[:, :inputs]


def _each_alone(weight: NDArray[np.float32], levels: Levels, block_size: int, pool: Executor) -> tuple[Values, Scales]:
    values, scales, parts = _room(weight, levels.bits, block_size, _CHUNK)
    alike = np.ones((1, scales.shape[1], block_size), np.float32)

    def search(part: slice) -> None:
        scales[part] = find_scales(to_blocks(weight[part], block_size), alike, levels)

    def pick(part: slice) -> None:
        values[part] = levels.pack(nearest(to_blocks(weight[part], block_size), stored[part][..., None], levels))

    list(pool.map(search, parts))
    stored = narrow(scales)  # before rounding, so that the levels are the nearest on the stored scales
    list(pool.map(pick, parts))
    return values, stored


def _with_feedback(
    weight: NDArray[np.float32], moments: NDArray[np.float32], levels: Levels, block_size: int, pool: Executor
) -> tuple[Values, Scales]:
    chunk = min(_FEEDBACK_CHUNK, -(-weight.size // (os.cpu_count() or 1)))
    values, scales, parts = _room(weight, levels.bits, block_size, chunk)
    follow, blocks = followers(moments), scales.shape[1]

    def work(part: slice) -> None:
        rounded, found = round_with_feedback(weight[part], moments, follow, levels, block_size)
        values[part], scales[part] = levels.pack(rounded[:, :blocks]), found[:, :blocks]

    list(pool.map(work, parts))
    return values, narrow(scales)


def _room(
    weight: NDArray[np.float32], bits: int, block_size: int, chunk: int
) -> tuple[Values, NDArray[np.float32], list[slice]]:
    """Allocate values and scales, and split the rows into slices of about `chunk` weights."""
    outputs, inputs = weight.shape
    blocks = -(-inputs // block_size)
    rows = max(1, chunk // max(1, blocks * block_size))
    values, scales = (
        np.empty((outputs, blocks, block_size * bits // 8), np.uint8),
        np.empty((outputs, blocks), np.float32),
    )
    return values, scales, [slice(start, start + rows) for start in range(0, outputs, rows)]
