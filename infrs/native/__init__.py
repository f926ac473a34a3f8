"""infrs's own kernels: a library of ONNX Runtime operators, compiled at installation if there is a C++ compiler.

It holds `MatMulNBits`, `GroupQueryAttention` and `SkipSimplifiedLayerNormalization` under ONNX Runtime's own names and
attributes. It also holds an MLP gate, a product with 16-bit scales and a mixture of experts, which a graph defines as
functions too. So one graph runs with the library or without it. All kernels support AVX2, and the products and
attention AVX-512. A token's bits depend neither on the other rows of a batch nor on how its prompt was cut into runs.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Refusal:
    """A node that the kernels do not implement. output: the name of one of its outputs, which no other node has."""

    output: str
    name: str
    reason: str


def library() -> Path | None:
    """Return the path of the kernels' library, or None if infrs was installed without a C++ compiler."""
    spec = find_spec("infrs.native.kernels")
    return Path(spec.origin) if spec and spec.origin else None


def find_function(name: str, path: Path | None = None) -> Any:  # noqa: ANN401  # of ctypes, without a public type
    """Return a C function of a library, else of `library()`; None if there is none, or if an older build lacks it."""
    path = path or library()
    return getattr(ctypes.CDLL(str(path)), name, None) if path else None


def build_id(path: Path) -> str:
    """Return the hash of a library, which identifies its build."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def take_refusals(path: Path) -> list[Refusal]:
    """Return the nodes without a kernel in the sessions that this thread has created since its last call."""
    lines = (_call(path, "infrs_take_refusals") or "").splitlines()
    return [Refusal(*line.split("\t", 2)) for line in lines]


def known_attributes(path: Path, op_type: str) -> frozenset[str] | None:
    """Return the attributes that an operator's kernel reads, or None if the library has no kernel for it."""
    attributes = _call(path, "infrs_known_attributes", op_type.encode())
    return None if attributes is None else frozenset(attributes.split())


def _call(path: Path, function: str, *arguments: bytes) -> str | None:
    called = find_function(function, path)
    if called is None:  # the library was built from older sources, and refuses a whole graph instead
        return None
    called.restype, called.argtypes = ctypes.c_char_p, [ctypes.c_char_p] * len(arguments)
    result: bytes | None = called(*arguments)
    return None if result is None else result.decode(errors="replace")


def release_pages(directory: Path) -> None:
    """Release this process's memory for mapped files of a directory. Pages that are read again come from the cache.

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
