"""Draws from a filtered row without a sort, in C++ if the library is there."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt

from infrs.native import find_function

Row = npt.NDArray[np.float32]
Filters = tuple[int, float, float, float]  # top_k, typical_p, top_p, min_p, in the order in which they apply


def draw(logits: Row, weights: Row, filters: Filters, temperature: float, uniform: float) -> int | None:
    """Draw an id for logits [n], by their weights, exp((logit - largest) / temperature), after some filters.

    uniform: a number from 0 up to, but not including, 1. Returns None if rounding could change the id, or if the
    library is missing.
    """
    function = _in_library()
    if function is None:
        return None
    logits = np.ascontiguousarray(logits)
    token_id = function(logits.ctypes.data, weights.ctypes.data, len(logits), *filters, temperature, uniform)
    return None if token_id < 0 else token_id


@cache
def _in_library() -> Callable[..., int] | None:
    called = find_function("infrs_draw")
    if called is None:
        return None
    row, number = ctypes.c_void_p, ctypes.c_double
    argtypes = [row, row, ctypes.c_size_t, ctypes.c_size_t, number, number, ctypes.c_float, number, number]
    called.argtypes, called.restype = argtypes, ctypes.c_int64
    function: Callable[..., int] = called
    return function
