"""Sums over the weights of a sampled row, in C++ if the library is there, else in NumPy."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt

from infrs.native import find_function

BLOCK = 256  # weights of a block; kSumBlock in sampling.h

Weights = npt.NDArray[np.float32]
Sums = npt.NDArray[np.float64]


def weigh_logarithms(weights: Weights) -> tuple[Sums, float]:
    """Return the sum of each block of 256 of weights [n] above 0, [ceil(n / 256)], and of weight * log(weight)."""
    function = _in_library()
    return in_numpy(weights) if function is None else function(weights)


def in_numpy(weights: Weights) -> tuple[Sums, float]:
    """Do as `weigh_logarithms`."""
    exact = weights.astype(np.float64)
    sums = np.add.reduceat(exact, np.arange(0, len(exact), BLOCK))
    return sums, float(np.einsum("i,i->", exact, np.log(exact)))  # np.dot takes threads for arrays of this size


@cache
def _in_library() -> Callable[[Weights], tuple[Sums, float]] | None:
    function = find_function("infrs_weigh_logarithms")
    if function is None or not function(None, ctypes.c_size_t(0), None, None):
        return None
    number = ctypes.POINTER(ctypes.c_double)
    function.argtypes = [ctypes.POINTER(ctypes.c_float), ctypes.c_size_t, number, number]

    def call(weights: Weights) -> tuple[Sums, float]:
        sums, weighted = np.empty(-(-len(weights) // BLOCK)), ctypes.c_double()
        weights = np.ascontiguousarray(weights)
        function(weights.ctypes.data_as(function.argtypes[0]), len(weights), sums.ctypes.data_as(number), weighted)
        return sums, weighted.value

    return call
