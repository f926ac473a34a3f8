"""Open a bundle: its session, and the runner for its kind of graph."""

from __future__ import annotations

from pathlib import Path

from infrs.bundle.manifest import Manifest
from infrs.bundle.states import bytes_per_token
from infrs.engine.runners.fused import FusedRunner
from infrs.engine.runners.plain import PlainRunner
from infrs.engine.runners.runner import Runner
from infrs.engine.runners.session import Session, create_session
from infrs.engine.runners.slab import stored_dtype
from infrs.errors import BundleError
from infrs.native.options import AUTO, KernelOptions


def open_session(
    bundle: Path,
    manifest: Manifest,
    *,
    threads: int,
    kernels: KernelOptions = AUTO,
    spin: bool = True,
    profile: Path | None = None,
) -> Session:
    """Open a bundle's graph; see `create_session`.

    Raises BundleError if this version cannot run the bundle or the graph cannot be opened, MemoryError.
    """
    check_manifest(manifest)
    path = bundle / manifest.graph_file
    halves = manifest.graph == "fused" and all(state.dtype == "float16" for state in manifest.states)
    return create_session(path, threads, kernels=kernels, halves=halves, spin=spin, profile=profile)


def check_manifest(manifest: Manifest) -> None:
    """Raise BundleError if this version has no runner for the states or the graph that a manifest describes."""
    for state in manifest.states:
        if state.kind != "kv":
            raise BundleError(f"this version does not run {state.kind} state; upgrade infrs")
        if len(state.shape) != 2:
            raise BundleError(
                f"the manifest gives keys and values the shape {list(state.shape)}, not [num_kv_heads, head_dim]; "
                "export the model again"
            )
    if manifest.graph == "fused" and not manifest.batch_invariant:
        raise BundleError(
            "the graph rounds all rows of a batch together, so one request would change another's answer; "
            "export the model again"
        )


def kv_bytes_per_token(session: Session, manifest: Manifest) -> int:
    """Return the bytes of keys and values that one token of one sequence takes in a session."""
    return bytes_per_token(manifest.states, stored_dtype(session))


def new_runner(
    session: Session, manifest: Manifest, *, num_rows: int, num_spare_rows: int = 0, capacity: int
) -> Runner:
    """Return the runner for a bundle's kind of graph, with rows of `capacity` tokens.

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
    spin: bool = True,
) -> Runner:
    """Open a session and return a runner over it. Raises as `open_session` and `new_runner` do."""
    session = open_session(bundle, manifest, threads=threads, kernels=kernels, spin=spin)
    return new_runner(session, manifest, num_rows=num_rows, num_spare_rows=num_spare_rows, capacity=capacity)
