"""Run one sequence through an exported graph, fused or plain, the way the parity gate needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from infrs.bundle import graph_signature as graph
from infrs.bundle.manifest import GraphKind, KVGeometry


class Runner(Protocol):
    """Reads one sequence piece by piece."""

    def reset(self) -> None:
        """Begin another sequence."""
        ...

    def feed(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read the next ids [S]; logits [S, vocab_size] of each."""
        ...


def open_session(graph_path: Path) -> ort.InferenceSession:
    """A session on the CPU that leaves the machine to others where it can."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # an export shares its machine
    # Initializers outside the arena, which doubles its blocks and would hold up to twice the weights.
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    return ort.InferenceSession(graph_path, options, providers=["CPUExecutionProvider"])


def open_runner(graph_path: Path, kind: GraphKind, kv: KVGeometry, capacity: int) -> Runner:
    """A runner of sequences up to `capacity` tokens."""
    session = open_session(graph_path)
    return _FusedRunner(session, kv, capacity) if kind == "fused" else _PlainRunner(session, kv)


class _FusedRunner:
    """Past and present of a layer are the same memory, as in the engine."""

    def __init__(self, session: ort.InferenceSession, kv: KVGeometry, capacity: int) -> None:
        self._session = session
        shape = (1, kv.num_kv_heads, capacity, kv.head_dim)
        self._slabs = [np.zeros(shape, np.float32) for _ in range(2 * kv.num_layers)]
        self._names = list(zip(graph.past_names(kv.num_layers), graph.present_names(kv.num_layers), strict=True))
        self._length = 0

    def reset(self) -> None:
        self._length = 0

    def feed(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        self._length += len(ids)
        binding = self._session.io_binding()
        binding.bind_cpu_input(graph.INPUT_IDS, ids[None])
        binding.bind_cpu_input(graph.SEQLENS_K, np.array([self._length - 1], np.int32))
        binding.bind_cpu_input(graph.TOTAL_SEQUENCE_LENGTH, np.array(self._length, np.int32))
        binding.bind_cpu_input(graph.LOGITS_INDICES, np.arange(len(ids)))
        binding.bind_output(graph.LOGITS)
        for (past, present), slab in zip(self._names, self._slabs, strict=True):
            binding.bind_input(past, "cpu", 0, np.float32, slab.shape, slab.ctypes.data)
            binding.bind_output(present, "cpu", 0, np.float32, slab.shape, slab.ctypes.data)
        self._session.run_with_iobinding(binding)
        logits: NDArray[np.float32] = binding.copy_outputs_to_cpu()[0]
        return logits


class _PlainRunner:
    """The present of one run is the past of the next."""

    def __init__(self, session: ort.InferenceSession, kv: KVGeometry) -> None:
        self._session = session
        self._inputs = {item.name for item in session.get_inputs()}
        self._past_names = graph.past_names(kv.num_layers)
        self._outputs = [graph.LOGITS, *graph.present_names(kv.num_layers)]
        self._empty = np.zeros((1, kv.num_kv_heads, 0, kv.head_dim), np.float32)
        self.reset()

    def reset(self) -> None:
        self._length = 0
        self._past = [self._empty] * len(self._past_names)

    def feed(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        positions = np.arange(self._length, self._length + len(ids))[None]
        self._length += len(ids)
        feeds: dict[str, NDArray[Any]] = {
            graph.INPUT_IDS: ids[None],
            graph.ATTENTION_MASK: np.ones((1, self._length), np.int64),
        }
        if graph.POSITION_IDS in self._inputs:
            feeds[graph.POSITION_IDS] = positions
        feeds.update(zip(self._past_names, self._past, strict=True))
        logits, *self._past = self._session.run(self._outputs, feeds)
        first: NDArray[np.float32] = logits[0]
        return first
