"""The slab: the keys and values of all rows, in memory that the graph reads and writes in place."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from infrs.bundle.states import DTYPE_BYTES, LayerState, StateDtype
from infrs.engine.runners.session import Session, stored_bytes

_GROUP = 8


class Slab:
    """The store of `kv` states: an array [rows, num_kv_heads, capacity, head_dim] for each layer's keys and values.

    `arrays` has the order of `infrs.bundle.graph_signature.past_names`. The capacity is rounded up to a multiple of
    eight, because infrs's kernels store keys in groups of eight positions. The system zero-fills pages on first use, so
    unused capacity costs address space only. Pages are small on purpose: with huge pages, which numpy asks for, the
    first token of each row and head would take 2 MB.
    """

    def __init__(self, states: Sequence[LayerState], rows: int, capacity: int, dtype: StateDtype = "float32") -> None:
        self.rows = rows
        self.capacity = _whole_groups(capacity)
        self.arrays = []
        for state in states:
            num_kv_heads, head_dim = state.shape
            shape = (rows, num_kv_heads, self.capacity, head_dim)
            self.arrays += [_small_pages(shape, dtype) for _ in ("key", "value")]

    def copy(self, source: int, target: int, num_tokens: int) -> None:
        """See StateStore.copy."""
        # Copying whole groups is safe: positions after the last token are written before they are read.
        end = _whole_groups(num_tokens)
        for array in self.arrays:
            array[target, :, :end] = array[source, :, :end]


def stored_dtype(session: Session) -> StateDtype:
    """Return the dtype in which the kernels of a session store keys and values."""
    return "float16" if stored_bytes(session) == DTYPE_BYTES["float16"] else "float32"


def _whole_groups(num_tokens: int) -> int:
    return -(-num_tokens // _GROUP) * _GROUP


def _small_pages(shape: tuple[int, ...], dtype: StateDtype) -> npt.NDArray[Any]:
    """Return zeros in memory that the system allocates page by page. Raises MemoryError."""
    try:
        memory = mmap.mmap(-1, prod(shape) * DTYPE_BYTES[dtype])
    except OSError as error:
        raise MemoryError(error.strerror) from error
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, dtype=dtype).reshape(shape)
