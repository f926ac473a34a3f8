"""ONNX Runtime sessions: how a graph is opened and which kernels run it. The only module that imports ONNX Runtime."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from infrs import native
from infrs.bundle.states import DTYPE_BYTES
from infrs.engine.runners.graph_check import check_work
from infrs.errors import BundleError
from infrs.machine.cpus import default_threads
from infrs.native.nodes import Node, read_graph, with_selected
from infrs.native.options import AUTO, KernelOptions, StoredDtype

logger = logging.getLogger(__name__)

Tokens: TypeAlias = Sequence[int] | npt.NDArray[np.int64]
Logits = npt.NDArray[np.float32]
Session: TypeAlias = ort.InferenceSession
Binding: TypeAlias = ort.IOBinding

# Entries of a session's configuration. The library reads some of them (library.cpp); the others describe the session.
_AVX2 = "infrs.avx2"
_AVX_VNNI = "infrs.avx_vnni"
_PRECISE = "infrs.precise"
_KV_DTYPE = "infrs.kv_dtype"  # of stored keys and values
_SELECTED = "infrs.selected"  # infrs's kernels run only the nodes that `with_selected` has moved
_THREADS = "infrs.threads"  # how many threads share the work of a node
_INSTRUCTIONS = "infrs.instructions"  # set by the library
_KERNELS = "infrs.kernels"  # the build of the library
_FALLBACK = "infrs.fallback."  # and a number: the name of a node that falls back
_SPINNING = "session.intra_op.allow_spinning"
_MODEL_FOLDER = "session.model_external_initializers_file_folder_path"

_NO_MEMORY = "std::bad_alloc"  # the name of C++'s exception, which ONNX Runtime passes on
_INVALID = "invalid node: "  # the library's message begins so if no kernel can run the node
_STATEFUL = "GroupQueryAttention"
# What ONNX Runtime says of an attribute that an operator does not have. The second name is of a node in a subgraph.
_UNKNOWN_ATTRIBUTE = re.compile(
    r'In Node, \("([^"]*)".*?Unrecognized attribute: (\S+) for operator (\S+)(?:.*? Name: (.*?) OpType: )?', re.DOTALL
)


def create_session(
    path: Path,
    threads: int,
    *,
    kernels: KernelOptions = AUTO,
    kv_dtype: StoredDtype = "float32",
    spin: bool = True,
    profile: Path | None = None,
) -> Session:
    """Open a graph on the CPU. `threads` 0 means `default_threads()`.

    infrs's kernels run every node that they implement, if they were built and the processor has AVX2. The other nodes
    fall back to ONNX Runtime's kernels, see `fallback_nodes`. If a node cannot fall back alone, all do.

    kv_dtype: of stored keys and values, unless an attention node falls back; see `stored_dtype`.
    spin: idle threads spin for a moment; an export does not, because it shares its machine.
    profile: path prefix of ONNX Runtime's profile, which `session.end_profiling()` completes.
    Raises BundleError with ONNX Runtime's reason if no kernel can run the graph, if a node contradicts itself or if it
    has an attribute that its operator does not have, and as `check_work` does. Raises MemoryError if memory runs out.
    """
    nodes = _nodes_of(path)
    spinning: dict[str, str | bool] = {} if spin else {_SPINNING: "0"}
    library, reason = native.library() if kernels.kernels == "auto" else None, ""
    if library is not None:
        entries = spinning | {
            _KERNELS: native.build_id(library),
            _AVX2: kernels.instructions == "avx2",
            _AVX_VNNI: kernels.instructions == "avx-vnni",
            _PRECISE: kernels.precision == "high",
            _KV_DTYPE: kv_dtype,
        }
        try:
            session = _open_with_library(path, nodes, threads, profile, library=library, entries=entries)
        except Exception as error:  # ONNX Runtime raises many types, none of them public
            reason = reason_of(error)
            if _NO_MEMORY in reason:
                raise MemoryError(reason) from error
            if _INVALID in reason:
                raise _unopened(path, error) from error
        else:
            native.release_pages(path.parent)
            return session
    try:
        session = _open(path, _options(threads, profile, entries=spinning))
    except Exception as error:
        if _NO_MEMORY in reason_of(error):
            raise MemoryError(reason_of(error)) from error
        raise _unopened(path, error) from error
    if reason:
        logger.warning("ONNX Runtime's slower kernels run the whole graph, because infrs's kernels cannot: %s", reason)
    return session


def kernels_of(session: Session) -> str:
    """Return the instructions and the build of infrs's kernels that run a session, as "avx512 0123456789abcdef".

    If nodes fall back, their number follows, as in "avx512 0123456789abcdef (3 nodes fall back)". The text is empty if
    ONNX Runtime's kernels run the whole graph.
    """
    build, fallbacks = _entry(session, _KERNELS), len(fallback_nodes(session))
    if not build:
        return ""
    note = f" ({fallbacks} node{'s' if fallbacks > 1 else ''} fall{'s' if fallbacks == 1 else ''} back)"
    return f"{_entry(session, _INSTRUCTIONS)} {build}{note if fallbacks else ''}"


def fallback_nodes(session: Session) -> tuple[str, ...]:
    """Return the names of the nodes that ONNX Runtime's kernels run, although infrs has a kernel for their operator.

    Empty if infrs's kernels run every such node, or no node (see `kernels_of`). If it is not empty, a token's bits may
    depend on how its prompt was cut into runs.
    """
    names: list[str] = []
    while name := _entry(session, f"{_FALLBACK}{len(names)}"):
        names.append(name)
    return tuple(names)


def threads_of(session: Session) -> int:
    """Return how many threads compute a session's runs."""
    return int(session.get_session_options().intra_op_num_threads)


def stored_dtype(session: Session) -> StoredDtype:
    """Return the dtype in which the kernels of a session store keys and values."""
    found = _entry(session, _KV_DTYPE)
    return next((dtype for dtype in DTYPE_BYTES if dtype == found), "float32")


def check_inputs(session: Session, required: set[str], optional: Set[str] = frozenset()) -> None:
    """Raise BundleError unless a graph has all required inputs, and no others but the optional ones."""
    present = {node.name for node in session.get_inputs()}
    if not required <= present <= required | optional:
        odd = sorted(present ^ required)
        raise BundleError(
            f"the graph's inputs are not those its manifest promises ({', '.join(odd[:4])}); export again"
        )


def _open_with_library(
    path: Path,
    nodes: Sequence[Node],
    threads: int,
    profile: Path | None,
    *,
    library: Path,
    entries: Mapping[str, str | bool],
) -> Session:
    """Open a graph with infrs's kernels. Raises an exception if they can run none of its nodes."""
    native.take_refusals(library)  # what an attempt that failed has left
    session = _open(path, _options(threads, profile, library, entries))
    nodes = [node for node in nodes if native.known_attributes(library, node.op_type) is not None]
    reasons = _refused(library, nodes)
    if not reasons:
        return session
    del session  # its memory is needed for the second attempt
    nodes = [node for node in nodes if not node.nested]
    selected = [node for node in nodes if reasons.keys().isdisjoint(node.outputs)]
    refused = [node for node in nodes if node not in selected]
    first_reason = next(iter(reasons.values()))
    if not selected or not reasons.keys() <= {output for node in nodes for output in node.outputs}:
        raise BundleError(first_reason)
    names = [node.name or node.outputs[0] for node in refused]
    keeps_dtype = all(node.op_type != _STATEFUL for node in refused)
    chosen = {
        **entries,
        _SELECTED: True,
        _KV_DTYPE: entries[_KV_DTYPE] if keeps_dtype else "float32",
        _MODEL_FOLDER: str(path.parent.resolve()),
        **{f"{_FALLBACK}{number}": name for number, name in enumerate(names)},
    }
    session = _open(with_selected(path, selected), _options(threads, profile, library, chosen))
    logger.warning(
        "%d of %d nodes run on ONNX Runtime's slower kernels, because infrs's kernels do not implement them; "
        "the first is %s (%s)",
        len(refused),
        len(nodes),
        names[0],
        first_reason,
    )
    return session


def _refused(library: Path, nodes: Sequence[Node]) -> dict[str, str]:
    """Return why nodes have no kernel in `library`, by the name of an output."""
    reasons = {refusal.output: refusal.reason for refusal in native.take_refusals(library)}
    for node in nodes:
        unknown = set(node.attributes) - (native.known_attributes(library, node.op_type) or set())
        if unknown and reasons.keys().isdisjoint(node.outputs):
            reasons[node.outputs[0]] = f"{node.op_type}: unknown attribute {min(unknown)}"
    return reasons


def _nodes_of(path: Path) -> list[Node]:
    """Return the nodes of a model file that infrs's kernels may run. Raises BundleError as `create_session` does.

    ONNX Runtime ignores an attribute that a function does not declare, so this refuses it.
    """
    try:
        graph = read_graph(path)
        for node in graph.nodes:
            if node.undeclared:
                raise ValueError(_unknown_attribute(node.name, node.op_type, node.undeclared))
    except OSError:  # ONNX Runtime reports why
        return []
    except ValueError as error:
        raise _unopened(path, error) from error
    check_work(graph)
    return graph.nodes


def _open(model: Path | bytes, options: ort.SessionOptions) -> Session:
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _unopened(path: Path, error: Exception) -> BundleError:
    reason = reason_of(error)
    if unknown := _UNKNOWN_ATTRIBUTE.search(str(error)):
        node, attribute, operator, inner_node = unknown.groups()
        reason = _unknown_attribute(inner_node or node, operator, attribute)
    return BundleError(f"ONNX Runtime cannot open {path}: {reason}; export the model again")


def _unknown_attribute(node: str, operator: str, attribute: str) -> str:
    return f"the node {node or 'without a name'} has the attribute {attribute}, which {operator} does not define"


def reason_of(error: Exception) -> str:
    """Return the message of an exception of ONNX Runtime, on one line and with a limited length."""
    return " ".join(str(error).split())[:300]


def _entry(session: Session, name: str) -> str:
    try:
        return str(session.get_session_options().get_session_config_entry(name))
    except RuntimeError:  # no such entry
        return ""


def _options(
    threads: int, profile: Path | None, library: Path | None = None, entries: Mapping[str, str | bool] | None = None
) -> ort.SessionOptions:
    """Return the options of a session. entries: of its configuration; a bool says whether the entry is there."""
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
    # How long an idle thread spins before it releases its core, in microseconds. If it spins longer, the threads slow
    # each other down as soon as another process needs a core. If it does not spin, every operator pays for a wake-up.
    options.add_session_config_entry("session.intra_op.spin_duration_us", "50")
    for name, value in (entries or {}).items():
        if value:
            options.add_session_config_entry(name, "1" if value is True else str(value))
    if library is not None:
        options.add_session_config_entry(_THREADS, str(options.intra_op_num_threads))
        options.register_custom_ops_library(str(library))
    return options
