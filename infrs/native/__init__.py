"""infrs's own kernels: a library of ONNX Runtime operators, built with the package where there is a C++ compiler.

It holds `MatMulNBits`, `GroupQueryAttention` and `SkipSimplifiedLayerNormalization` under ONNX Runtime's own names and
attributes, and a gate and a product with scales in 16 bits that a graph also defines as functions, so one graph runs
with it or without. All are for AVX2, the products for AVX512-VNNI too. With it, a token's bits depend neither on the
rows beside it nor on how its prompt was cut into runs.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
from importlib.util import find_spec
from pathlib import Path


def library() -> Path | None:
    """The kernels' library; None if it could not be built when infrs was installed."""
    spec = find_spec("infrs.native.kernels")
    return Path(spec.origin) if spec and spec.origin else None


def build_id(path: Path) -> str:
    """What tells one build of the library from another: a hash of its bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def release_pages(directory: Path) -> None:
    """Take the pages of mapped files out of this process's memory; they come back from the system's cache when read.

    The kernels keep their own copy of the weights, in the order in which they read them. Linux only.
    """
    maps = Path("/proc/self/maps")
    if not maps.exists() or not hasattr(mmap, "MADV_DONTNEED"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    for line in maps.read_text().splitlines():
        if f" {directory.resolve()}/" in line:  # mapped from the file and never written to, so nothing is lost
            first, last = (int(part, 16) for part in line.split(maxsplit=1)[0].split("-"))
            libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), mmap.MADV_DONTNEED)
