"""The slab: its shape, the extent of a copy, and the error where memory is too small."""

from __future__ import annotations

import re
import resource
from pathlib import Path

import numpy as np
import pytest

from infrs.bundle.states import KVGeometry
from infrs.engine.runners.slab import Slab

STATES = KVGeometry(num_layers=3, num_kv_heads=2, head_dim=4).states("float32")


@pytest.mark.parametrize(("asked", "capacity"), [(1, 8), (8, 8), (9, 16), (100, 104)])
def test_capacity_comes_in_groups_of_eight(asked: int, capacity: int) -> None:
    slab = Slab(STATES, rows=5, capacity=asked)
    assert (slab.rows, slab.capacity) == (5, capacity)
    assert [array.shape for array in slab.arrays] == [(5, 2, capacity, 4)] * 6
    assert not any(array.any() for array in slab.arrays)


@pytest.mark.parametrize(("num_tokens", "end"), [(1, 8), (8, 8), (9, 16)])
def test_a_copy_touches_no_more_than_the_groups_of_its_tokens(num_tokens: int, end: int) -> None:
    slab = Slab(STATES, rows=3, capacity=24)
    for number, array in enumerate(slab.arrays):
        array[:] = number + np.arange(array.size).reshape(array.shape)
    before = [array.copy() for array in slab.arrays]
    slab.copy(2, 0, num_tokens)
    for array, was in zip(slab.arrays, before, strict=True):
        was[0, :, :end] = was[2, :, :end]
        np.testing.assert_array_equal(array, was)


@pytest.mark.parametrize("num_tokens", [1, 8, 9, 30])
def test_a_copy_in_8_bits_takes_numbers_and_scales(num_tokens: int) -> None:
    """The memory of a row and head has 32 positions of 4 numbers, then 32 scales of 4 bytes."""
    slab = Slab(STATES, rows=3, capacity=30, dtype="int8")
    assert [array.shape for array in slab.arrays] == [(3, 2, 16, 4)] * 6
    for array in slab.arrays:
        array[:] = np.arange(array.size).reshape(array.shape)
    before = [array.copy() for array in slab.arrays]
    slab.copy(2, 0, num_tokens)
    end = -(-num_tokens // 8) * 8
    for array, was in zip(slab.arrays, before, strict=True):
        expected = was.view(np.uint8).reshape(3, 2, 256)
        for part in (slice(0, 4 * end), slice(128, 128 + 4 * end)):
            expected[0, :, part] = expected[2, :, part]
        np.testing.assert_array_equal(array, was)


def test_a_slab_larger_than_memory_is_refused() -> None:
    with pytest.raises(MemoryError, match="memory"):
        Slab(STATES, rows=1, capacity=1 << 44)


def test_the_pages_of_a_slab_are_never_huge() -> None:
    """The first token of each row and head would take a whole huge page. The flag is `nh` in proc(5)."""
    slab = Slab(STATES, rows=2, capacity=4096)
    address = slab.arrays[0].ctypes.data
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if found := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(found[1], 16) <= address < int(found[2], 16)
        elif inside and line.startswith("VmFlags:"):
            assert "nh" in line.split()
            return
    pytest.fail("the slab is in no mapping")


def test_a_released_slab_takes_no_memory_and_is_empty() -> None:
    states = KVGeometry(num_layers=1, num_kv_heads=4, head_dim=64).states("float32")
    slab = Slab(states, rows=8, capacity=4096)
    assert slab.max_bytes == 2 * 8 * 4 * 4096 * 64 * 4
    for array in slab.arrays:
        array[:] = 1
    full = resident_bytes()
    slab.release()
    assert full - resident_bytes() > 0.9 * slab.max_bytes
    assert not any(array.any() for array in slab.arrays)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
