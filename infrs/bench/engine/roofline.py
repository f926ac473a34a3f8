"""Measure the machine's memory bandwidth and multiply-adds, and compute the limit of a step."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from infrs.bundle.manifest import Manifest

_MATRIX_BYTES = 256 << 20  # larger than the last-level cache of a laptop or small server
_SQUARE = 1536
_REPEATS = 5


@dataclass(frozen=True, slots=True)
class Machine:
    """The limits of a machine over all cores, by OpenBLAS, best of 5.

    bandwidth: bytes read a second. multiply_adds: float32 multiply-adds a second.
    """

    bandwidth: float
    multiply_adds: float


@dataclass(frozen=True, slots=True)
class Bound:
    """The least time of a step in seconds: to read its bytes, and to do its multiply-adds."""

    reading: float
    computing: float

    @property
    def seconds(self) -> float:
        """Return the larger of the two, because they can overlap."""
        return max(self.reading, self.computing)


def measure_machine() -> Machine:
    """Measure the machine. This takes about a second and 256 MiB of memory."""
    matrix = np.ones((_MATRIX_BYTES // 4 // 8192, 8192), dtype=np.float32)
    vector = np.ones(8192, dtype=np.float32)
    square = np.ones((_SQUARE, _SQUARE), dtype=np.float32)
    return Machine(
        bandwidth=matrix.nbytes / _best(lambda: matrix @ vector),
        multiply_adds=_SQUARE**3 / _best(lambda: square @ square),
    )


def weight_bytes(manifest: Manifest) -> int:
    """Return the bytes of the graph and its weights as stored.

    A decode step reads all of them, except an embedding table that is not also the output's. That one is included.
    """
    return sum(entry.size for name, entry in manifest.files.items() if name.startswith(manifest.graph_file))


def bound(machine: Machine, manifest: Manifest, *, kv_bytes: int, multiply_adds: float) -> Bound:
    """Return the limit of a decode step with `kv_bytes` of keys and values and `multiply_adds` in its products."""
    num_bytes = weight_bytes(manifest) + kv_bytes
    return Bound(reading=num_bytes / machine.bandwidth, computing=multiply_adds / machine.multiply_adds)


def _best(run: Callable[[], object]) -> float:
    run()
    times = []
    for _ in range(_REPEATS):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return min(times)
