"""Open a bundle: its session, and the runner for its kind of graph."""

from __future__ import annotations

import mmap
from pathlib import Path

from infrs.bundle.manifest import Manifest
from infrs.engine.runners.fused import FusedRunner
from infrs.engine.runners.plain import PlainRunner
from infrs.engine.runners.runner import Runner
from infrs.engine.runners.session import Session, create_session, stored_bytes
from infrs.errors import BundleError
from infrs.native.options import AUTO, KernelOptions

_SHARED_SCALE = b"DynamicQuantizeLinear"  # ONNX's operator, whose scale is of its whole input


def open_session(
    bundle: Path, manifest: Manifest, *, threads: int, kernels: KernelOptions = AUTO, profile: Path | None = None
) -> Session:
    """A session over a bundle's graph; see `create_session`.

    Keys and values are stored in 16 bits beside weights of 8 or 4, whose rounding is far coarser.
    Raises BundleError if the graph cannot be opened or would answer otherwise in other company, MemoryError.
    """
    path = bundle / manifest.graph_file
    halves = manifest.graph == "fused" and manifest.recipe.name == "blocks"
    session = create_session(path, threads, kernels=kernels, halves=halves, profile=profile)
    if manifest.graph == "fused" and _has(path, _SHARED_SCALE):  # the plain one runs each row by itself
        raise BundleError(
            f"{path} rounds all rows of a batch by one scale ({_SHARED_SCALE.decode()}), so one request would change "
            "another's answer; export the model again"
        )
    return session


def kv_bytes_per_token(session: Session, manifest: Manifest) -> int:
    """Bytes of keys and values that one token of one sequence takes in a session."""
    return manifest.kv.bytes_per_token(stored_bytes(session))


def new_runner(
    session: Session, manifest: Manifest, *, num_rows: int, num_spare_rows: int = 0, capacity: int
) -> Runner:
    """The runner for a bundle's kind of graph, with `num_rows` rows of `capacity` tokens and some spare ones.

    Raises BundleError if the graph has other inputs than its manifest says, MemoryError.
    """
    kind: type[FusedRunner | PlainRunner] = FusedRunner if manifest.graph == "fused" else PlainRunner
    return kind(session, manifest, num_rows=num_rows, num_spare_rows=num_spare_rows, capacity=capacity)


def open_runner(
    bundle: Path,
    manifest: Manifest,
    *,
    num_rows: int,
    num_spare_rows: int = 0,
    capacity: int,
    threads: int,
    kernels: KernelOptions = AUTO,
) -> Runner:
    """`new_runner` of `open_session`, where how many rows there is room for does not depend on the session."""
    session = open_session(bundle, manifest, threads=threads, kernels=kernels)
    return new_runner(session, manifest, num_rows=num_rows, num_spare_rows=num_spare_rows, capacity=capacity)


def _has(path: Path, name: bytes) -> bool:
    """Whether a file has such bytes in it, as a graph has the name of each operator that it uses."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(name) >= 0
