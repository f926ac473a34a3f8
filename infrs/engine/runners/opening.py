"""Open a bundle: its session, and the runner for its kind of graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infrs.bundle import graph_signature as graph
from infrs.bundle.manifest import Manifest
from infrs.bundle.states import StateSize, kv_dtype, size_of
from infrs.engine.runners.fused import FusedRunner
from infrs.engine.runners.plain import PlainRunner
from infrs.engine.runners.runner import Rows, Runner, Segment
from infrs.engine.runners.session import Session, create_session, reason_of, stored_dtype
from infrs.errors import BundleError, InfrsError
from infrs.machine import memory
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
    stored = kernels.stored_dtype(kv_dtype(manifest.states)) if manifest.graph == "fused" else "float32"
    with memory.limit_growth(bytes_to_open(bundle)):
        session = create_session(path, threads, kernels=kernels, kv_dtype=stored, spin=spin, profile=profile)
    check_sizes(session, manifest)
    return session


def bytes_to_open(bundle: Path) -> int:
    """Return more memory than any graph needs while it is opened: constants that it computes have no other bound.

    A graph in float16 takes six times its file: mapped, and twice widened to float32.
    """
    return 16 * sum(file.stat().st_size for file in bundle.iterdir()) + (1 << 30)


def check_manifest(manifest: Manifest) -> None:
    """Raise BundleError if this version has no runner for the states or the graph that a manifest describes."""
    for state in manifest.states:
        if state.kind != "kv" and manifest.graph != "fused":
            raise BundleError(f"the manifest gives a plain graph {state.kind} states; export the model again")
        if state.kind != "kv" and (state.dtype != "float32" or state.truncatable or not state.snapshottable):
            raise BundleError(f"this version does not run the manifest's {state.kind} states; upgrade infrs")
        if state.kind == "kv" and len(state.shape) != 2:
            raise BundleError(
                f"the manifest gives keys and values the shape {list(state.shape)}, not [num_kv_heads, head_dim]; "
                "export the model again"
            )


def check_sizes(session: Session, manifest: Manifest) -> None:
    """Raise BundleError if a fixed size among a graph's inputs and outputs is not that of the manifest."""
    shapes = {node.name: node.shape for node in (*session.get_inputs(), *session.get_outputs())}
    expected = [(graph.LOGITS, -1, manifest.vocab_size)]
    sizes: list[dict[int, int]] = []  # of each state's tensors, by axis
    for state in manifest.states:
        if state.kind == "kv":
            sizes += [dict(zip((1, 3), state.shape, strict=True))] * 2
        else:
            sizes.append(dict(enumerate(state.shape, 1)))
    for names in (graph.past_names(manifest.states), graph.present_names(manifest.states)):
        expected += [(name, axis, size) for name, axes in zip(names, sizes, strict=True) for axis, size in axes.items()]
    for name, axis, size in expected:
        shape = shapes.get(name, [])
        if len(shape) > abs(axis) and isinstance(shape[axis], int) and shape[axis] != size:
            raise BundleError(f"the graph's {name} has the size {shape[axis]}, not {size}; export the model again")


def state_size(session: Session, manifest: Manifest) -> StateSize:
    """Return the size of the states of one sequence in a session."""
    return size_of(manifest.states, stored_dtype(session))


def new_runner(session: Session, manifest: Manifest, rows: Rows) -> Runner:
    """Return the runner for a bundle's kind of graph.

    Raises BundleError if the graph has other inputs than its manifest says or cannot run, MemoryError.
    """
    kind: type[FusedRunner | PlainRunner] = FusedRunner if manifest.graph == "fused" else PlainRunner
    with reports_failures():
        return kind(session, manifest, rows)


def try_run(runner: Runner, vocab_size: int) -> None:
    """Run the first and the last token of the vocabulary.

    Raises BundleError if the graph cannot, or gives scores of another size than the vocabulary's; MemoryError.
    """
    with reports_failures():
        scores = runner.run([Segment(0, 0, (0, vocab_size - 1), (1,))])
    if scores.shape != (1, vocab_size):
        raise BundleError(f"the graph gives {scores.shape[-1]} scores, not {vocab_size}; export the model again")


@contextmanager
def reports_failures() -> Iterator[None]:
    """Raise BundleError for a graph that fails while it is tried, instead of an exception of ONNX Runtime."""
    try:
        yield
    except (InfrsError, MemoryError):
        raise
    except Exception as error:  # ONNX Runtime raises many types, none of them public
        raise BundleError(f"the graph cannot run ({reason_of(error)}); export the model again") from error


def open_runner(
    bundle: Path,
    manifest: Manifest,
    rows: Rows,
    *,
    threads: int,
    kernels: KernelOptions = AUTO,
    spin: bool = True,
) -> Runner:
    """Open a session and return a runner over it. Raises as `open_session` and `new_runner` do."""
    session = open_session(bundle, manifest, threads=threads, kernels=kernels, spin=spin)
    return new_runner(session, manifest, rows)
