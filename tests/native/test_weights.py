"""Sums over sampling weights agree with exact ones, in the library and in NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest

from infrs import native
from infrs.native import sampling_weights as module
from infrs.native.sampling_weights import BLOCK, in_numpy, weigh_logarithms

RNG = np.random.default_rng(0)
ROWS = {
    "one": np.ones(1),
    "a tail": np.exp(-RNG.random(BLOCK * 3 + 5) * 4),
    "steep": np.exp(-np.linspace(0, 87, 1000)),
    "flat": np.full(BLOCK, 0.25),
    "below the normal numbers": np.array([1.0, 1e-40, 1e-45]),
    "larger than 1": np.array([3.0, 2.0, 1e30]),
}


def test_the_library_is_in_use() -> None:
    assert native.library() is not None
    assert module._in_library() is not None


@pytest.mark.parametrize("sums_of", [weigh_logarithms, in_numpy])
@pytest.mark.parametrize("name", ROWS)
def test_sums_agree_with_exact_ones(name: str, sums_of: object) -> None:
    row = ROWS[name].astype(np.float32)
    assert callable(sums_of)
    sums, weighted = sums_of(row)
    exact = row.astype(np.float64)
    blocks = [math.fsum(exact[start : start + BLOCK]) for start in range(0, len(row), BLOCK)]
    assert sums == pytest.approx(blocks, rel=1e-13)
    assert weighted == pytest.approx(math.fsum(weight * math.log(weight) for weight in exact), rel=1e-12, abs=1e-35)


def test_a_row_of_every_second_weight_is_read_with_its_stride() -> None:
    row = ROWS["a tail"].astype(np.float32)
    assert weigh_logarithms(row[::2])[0] == pytest.approx(weigh_logarithms(row[::2].copy())[0])
