"""ONNX Runtime's sessions: the only file that imports it. How a graph is opened, and by whose kernels it runs."""

from __future__ import annotations

import logging
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from infrs import native
from infrs.errors import BundleError
from infrs.machine.cpus import default_threads

logger = logging.getLogger(__name__)

Kernels = Literal["auto", "precise", "avx2", "onnxruntime"]
Tokens: TypeAlias = Sequence[int] | npt.NDArray[np.int64]
Logits = npt.NDArray[np.float32]
Session: TypeAlias = ort.InferenceSession
Binding: TypeAlias = ort.IOBinding

# The session's own notes of what runs it: a build of `infrs.native`, and the instructions that it uses.
_KERNELS = "infrs.kernels"
_INSTRUCTIONS = "infrs.instructions"
_HALVES = "infrs.halves"  # keys and values are stored in 16 bits
_NO_MEMORY = "std::bad_alloc"  # C++'s own exception, as ONNX Runtime passes it on
_INVALID = "invalid node: "  # `infrs.native` begins its reason so where no kernel could run the node


def create_session(
    path: Path, threads: int, *, kernels: Kernels = "auto", halves: bool = False, profile: Path | None = None
) -> Session:
    """Open a graph on the CPU provider. `threads` 0 takes `default_threads()`.

    kernels: "auto" takes those of `infrs.native` where they were built and this processor and the graph allow;
    "precise" the same, with 16-bit inputs for all 8-bit weights; "avx2" the same without wider vectors, which has them.
    halves: infrs's kernels are to store keys and values in 16 bits, unless they are "precise"; see `stored_bytes`.
    profile: the beginning of the path of ONNX Runtime's own profile, which `session.end_profiling()` completes.
    Raises BundleError with ONNX Runtime's reason, in one line, where nothing can run the graph or one of its nodes
    contradicts itself; MemoryError where memory is what lacks.
    """
    own, refusal = native.library() if kernels != "onnxruntime" else None, ""
    if own is not None:
        try:
            session = _open(path, _options(threads, own, profile, kernels, halves=halves))
        except Exception as error:  # ONNX Runtime raises many types, none of them public
            refusal = _reason(error)
            if _NO_MEMORY in refusal:
                raise MemoryError(refusal) from error
            if _INVALID in refusal:
                raise _unopened(path, error) from error
        else:
            native.release_pages(path.parent)
            return session
    try:
        session = _open(path, _options(threads, None, profile, kernels))
    except Exception as error:
        if _NO_MEMORY in _reason(error):
            raise MemoryError(_reason(error)) from error
        raise _unopened(path, error) from error
    if refusal:
        logger.warning("infrs's own kernels do not run here, ONNX Runtime's do, slower: %s", refusal)
    return session


def _unopened(path: Path, error: Exception) -> BundleError:
    return BundleError(f"ONNX Runtime cannot open {path}: {_reason(error)}; export the model again")


def _open(path: Path, options: ort.SessionOptions) -> Session:
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def kernels_of(session: Session) -> str:
    """The instructions and the build of `infrs.native` that a session runs, as "avx512 0123456789abcdef".

    Empty if all its kernels are ONNX Runtime's.
    """
    build = _note(session, _KERNELS)
    return f"{_note(session, _INSTRUCTIONS)} {build}" if build else ""


def threads_of(session: Session) -> int:
    """How many threads compute a session's runs."""
    return int(session.get_session_options().intra_op_num_threads)


def stored_bytes(session: Session) -> int:
    """Bytes that a number takes among the keys and values that a session reads and writes: 2 (IEEE half) or 4."""
    return 2 if _note(session, _HALVES) else 4


def _note(session: Session, entry: str) -> str:
    try:
        return str(session.get_session_options().get_session_config_entry(entry))
    except RuntimeError:  # no such entry
        return ""


def _options(
    threads: int, library: Path | None, profile: Path | None, kernels: Kernels, *, halves: bool = False
) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or default_threads()
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    # Initializers outside the arena: the arena doubles its blocks and would hold up to twice the weights.
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    # How long a thread that waits for work spins, in microseconds, before it gives its core away: longer, and two
    # threads collapse as soon as another process wants a core; not at all, and every operator pays for a wake-up.
    options.add_session_config_entry("session.intra_op.spin_duration_us", "50")
    if library is not None:
        options.add_session_config_entry(f"infrs.{kernels}", "1")
        if halves and kernels != "precise":
            options.add_session_config_entry(_HALVES, "1")
        options.register_custom_ops_library(str(library))
        options.add_session_config_entry(_KERNELS, native.build_id(library))
    return options


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def check_inputs(session: Session, required: set[str], optional: Set[str] = frozenset()) -> None:
    """Raise BundleError unless a graph has all the inputs that are required, and none beside those and the optional."""
    present = {node.name for node in session.get_inputs()}
    if not required <= present <= required | optional:
        odd = sorted(present ^ required)
        raise BundleError(
            f"the graph's inputs are not those its manifest promises ({', '.join(odd[:4])}); export again"
        )
