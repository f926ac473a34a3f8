"""The levels that a weight of a block can have, as multiples of the block's scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class Levels:
    """The levels of weights. A weight is stored as the number of its level, in ascending order.

    name: of a recipe's options. bits: of a number. values: float32, 2**bits whole numbers from -128 to 127, ascending.
    ends: the levels that a block's weight of largest magnitude may have; the scale of a block may be negative.
    """

    def __init__(self, name: str, values: Sequence[int], ends: Sequence[int]) -> None:
        self.name, self.bits, self.ends = name, len(values).bit_length() - 1, ends
        self.values = np.array(values, np.float32)
        self.is_even = bool((np.diff(self.values) == 1).all())
        halves = np.arange(-256, 256) / 2  # no border between two levels is inside such a step
        borders = (self.values[1:] + self.values[:-1]) / 2
        self._numbers = np.searchsorted(borders, halves, side="right").astype(np.uint8)
        self._nearest = self.values[self._numbers]

    def nearest(self, multiples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the nearest levels. Overwrites `multiples`."""
        if self.is_even:
            np.rint(multiples, out=multiples)
            return np.clip(multiples, self.values[0], self.values[-1], out=multiples)
        return np.take(self._nearest, _steps(multiples))

    def pack(self, levels: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Pack levels [N, B, block] to bytes [N, B, block * bits / 8], the even input in the low nibble."""
        numbers = self._numbers[_steps(levels.copy())]
        if self.bits == 8:
            return numbers
        return np.bitwise_or(numbers[..., 0::2], np.left_shift(numbers[..., 1::2], 4), dtype=np.uint8)

    def unpack(self, values: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the levels [N, B, block] of packed ones."""
        if self.bits == 4:
            values = np.stack([values & 15, values >> 4], axis=-1).reshape(*values.shape[:2], -1)
        return self.values[values]


def _steps(multiples: NDArray[np.float32]) -> NDArray[np.int16]:
    """Return the places of multiples in steps of a half from -128. Overwrites `multiples`."""
    np.multiply(multiples, 2, out=multiples)
    np.floor(multiples, out=multiples)
    np.clip(multiples, -256, 255, out=multiples)
    return multiples.astype(np.int16) + np.int16(256)


# The level -half has no positive counterpart: a block's weight of largest magnitude takes it.
EVEN = {bits: Levels("even", range(-(1 << bits - 1), 1 << bits - 1), [-(1 << bits - 1)]) for bits in (4, 8)}
# Dense near zero, where most weights are. llama.cpp's IQ4_NL has such levels from -127 to 113. Here they are 63 apart
# at most, so that sums of four products fit 16 bits on AVX2, and one is zero. The squared error of normal and Laplace
# distributed weights is within 1 % of IQ4_NL's.
NONLINEAR = Levels("nonlinear", [-34, -28, -22, -17, -13, -9, -6, -3, 0, 3, 6, 10, 14, 18, 23, 29], ends=[-34, 29])
