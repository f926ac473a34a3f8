"""The slab: the states of all rows, in memory that the graph reads and writes in place."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from infrs.bundle.states import DTYPE_BYTES, SCALE_BYTES, LayerState, kv_bytes
from infrs.native.options import StoredDtype

_GROUP = 8


class Slab:
    """The store of all states, in arrays that the graph reads and writes in place.

    `arrays` has the order of `infrs.bundle.graph_signature.past_names`. A `kv` state has two arrays
    [rows, num_kv_heads, capacity, head_dim] of `dtype`. In int8 they are float32 arrays [rows, num_kv_heads, slots,
    head_dim] instead: the memory of a row and head has the numbers [capacity, head_dim] and then the scales [capacity]
    in float32. Any other state has one float32 array [places, *shape], with a place for each row and, behind them, one
    for each snapshot. The capacity is rounded up to a multiple of eight, because infrs's kernels store keys in groups
    of eight positions. The system zero-fills pages on first use, so unused capacity costs address space only. Pages
    are small on purpose: with huge pages, which numpy asks for, the first token of each row and head would take 2 MB.

    max_bytes: the size of all rows and snapshots.
    """

    def __init__(
        self,
        states: Sequence[LayerState],
        rows: int,
        capacity: int,
        dtype: StoredDtype = "float32",
        num_snapshots: int = 0,
    ) -> None:
        self.rows = rows
        self.capacity = _whole_groups(capacity)
        self.arrays: list[npt.NDArray[Any]] = []
        self._keys_and_values: list[npt.NDArray[Any]] = []  # [rows, num_kv_heads, positions, numbers]
        self._fixed: list[npt.NDArray[np.float32]] = []
        self._memory: list[mmap.mmap] = []
        for state in states:
            if state.kind == "kv":
                num_kv_heads, head_dim = state.shape
                for _ in ("key", "value"):
                    self._add_keys_or_values(num_kv_heads, head_dim, dtype)
            else:
                self._fixed.append(self._array((rows + num_snapshots, *state.shape), "float32"))
                self.arrays.append(self._fixed[-1])
        self.max_bytes = sum(array.nbytes for array in self.arrays)

    def _add_keys_or_values(self, num_kv_heads: int, head_dim: int, dtype: StoredDtype) -> None:
        rows = self.rows
        if dtype != "int8":
            self.arrays.append(self._array((rows, num_kv_heads, self.capacity, head_dim), dtype))
            self._keys_and_values.append(self.arrays[-1])
            return
        slot = head_dim * DTYPE_BYTES["float32"]
        slots = -(-self.capacity * kv_bytes(head_dim, dtype) // slot)
        self.arrays.append(self._array((rows, num_kv_heads, slots, head_dim), "float32"))
        memory = self.arrays[-1].view(np.uint8).reshape(rows, num_kv_heads, slots * slot)
        for first, size in ((0, head_dim), (self.capacity * head_dim, SCALE_BYTES)):
            part = memory[:, :, first : first + self.capacity * size]
            self._keys_and_values.append(part.reshape(rows, num_kv_heads, self.capacity, size))

    def _array(self, shape: tuple[int, ...], dtype: StoredDtype) -> npt.NDArray[Any]:
        memory = _small_pages(prod(shape) * DTYPE_BYTES[dtype])
        self._memory.append(memory)
        return np.frombuffer(memory, dtype=dtype).reshape(shape)

    def copy(self, source: int, target: int, num_tokens: int, snapshot: int | None = None) -> None:
        """See StateStore.copy."""
        # Copying whole groups is safe: positions after the last token are written before they are read.
        end = _whole_groups(num_tokens)
        if source != target:
            for array in self._keys_and_values:
                array[target, :, :end] = array[source, :, :end]
        self._copy_fixed(source if snapshot is None else self.rows + snapshot, target)

    def save(self, row: int, snapshot: int) -> None:
        """See StateStore.save."""
        self._copy_fixed(row, self.rows + snapshot)

    def begin(self, row: int) -> None:
        """Fill the states of a row, but for keys and values, with zeros: the row has no tokens."""
        for array in self._fixed:
            array[row] = 0

    def _copy_fixed(self, source: int, target: int) -> None:
        for array in self._fixed:
            array[target] = array[source]

    def release(self) -> None:
        """See StateStore.release. Bindings stay valid: the next access to a page gets zeros, as the first one did."""
        if sys.platform == "linux":  # elsewhere MADV_DONTNEED is a hint
            for memory in self._memory:
                memory.madvise(mmap.MADV_DONTNEED)


def _whole_groups(num_tokens: int) -> int:
    return -(-num_tokens // _GROUP) * _GROUP


def _small_pages(num_bytes: int) -> mmap.mmap:
    """Return zeros in memory that the system allocates page by page. Raises MemoryError."""
    try:
        # Python maps shared memory by default, which MADV_DONTNEED does not free.
        memory = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE)
    except OSError as error:
        raise MemoryError(error.strerror) from error
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return memory
