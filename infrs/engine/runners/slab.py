"""The slab: every row's keys and values, in memory that the graph reads and writes in place."""

from __future__ import annotations

import mmap
from math import prod

import numpy as np
import numpy.typing as npt

from infrs.bundle.manifest import KVGeometry

_GROUP = 8


class Slab:
    """One array [rows, num_kv_heads, capacity, head_dim] per layer and part (key, value).

    `arrays` has the order of `infrs.bundle.graph_signature.past_names`. The graph declares them as float32. If the
    kernels store numbers in 2 bytes, one position of an array holds two positions of a sequence. The capacity is
    rounded up to a multiple of eight, because `infrs.native` stores keys in groups of eight positions. The system
    zero-fills pages on first use, so unused capacity costs address space only. The pages are small on purpose: numpy
    asks for huge pages, and the first token of each row and head would then take 2 MB.
    """

    def __init__(self, geometry: KVGeometry, rows: int, capacity: int, stored_bytes: int = 4) -> None:
        self.rows = rows
        self.capacity = _whole_groups(capacity)
        self._together = 4 // stored_bytes
        shape = (rows, geometry.num_kv_heads, self.capacity // self._together, geometry.head_dim)
        self.arrays = [_small_pages(shape) for _ in range(2 * geometry.num_layers)]

    def copy(self, source: int, target: int, num_tokens: int) -> None:
        """See StateStore.copy."""
        # What lies behind the last token is written before it is read.
        end = _whole_groups(num_tokens) // self._together
        for array in self.arrays:
            array[target, :, :end] = array[source, :, :end]


def _whole_groups(num_tokens: int) -> int:
    return -(-num_tokens // _GROUP) * _GROUP


def _small_pages(shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Zeros, in memory that the system hands out page by page. Raises MemoryError."""
    try:
        memory = mmap.mmap(-1, prod(shape) * 4)
    except OSError as error:
        raise MemoryError(error.strerror) from error
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, dtype=np.float32).reshape(shape)
