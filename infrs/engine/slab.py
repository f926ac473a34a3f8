"""The slab: every row's keys and values, in memory that the graph reads and writes in place."""

from __future__ import annotations

import mmap
from math import prod

import numpy as np
import numpy.typing as npt

from infrs.manifest import KVGeometry


class Slab:
    """One float32 array [rows, num_kv_heads, capacity, head_dim] per layer and part (key, value).

    `arrays` is ordered as `infrs.graph.past_names`. The pages are zero-filled by the system when first touched,
    so capacity that no sequence reaches costs address space only. They are small pages on purpose: numpy asks for huge
    ones, of which the first token of each row and head would take a whole one (2 MB).
    """

    def __init__(self, geometry: KVGeometry, rows: int, capacity: int) -> None:
        shape = (rows, geometry.num_kv_heads, capacity, geometry.head_dim)
        self.rows = rows
        self.capacity = capacity
        self.arrays = [_small_pages(shape) for _ in range(2 * geometry.num_layers)]

    def copy_row(self, source: int, target: int, num_tokens: int) -> None:
        """Copy the first `num_tokens` positions of row `source` to row `target`."""
        for array in self.arrays:
            array[target, :, :num_tokens] = array[source, :, :num_tokens]


def _small_pages(shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Zeros, in memory that the system hands out page by page."""
    memory = mmap.mmap(-1, prod(shape) * 4)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, dtype=np.float32).reshape(shape)
