"""Run an exported graph as the engine does: one slab a layer, past and present bound to the same memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from infrs_export.graph.convert import Conversion
from numpy.typing import NDArray

from infrs.bundle import graph_signature as graph
from infrs.bundle.states import LayerState
from infrs.engine.runners.session import create_session, kernels_of


def open_session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def state_shapes(states: Iterable[LayerState], rows: int, capacity: int) -> Iterator[tuple[int, ...]]:
    """Yield the shape of each array that `states` take for a number of rows."""
    for state in states:
        if state.kind == "kv":
            num_kv_heads, head_dim = state.shape
            yield from [(rows, num_kv_heads, capacity, head_dim)] * 2
        else:
            yield rows, *state.shape


class FusedRunner:
    """Rows of sequences in slabs of `capacity` tokens; a row's length is known to the caller's list `lengths`."""

    def __init__(
        self,
        directory: Path,
        conversion: Conversion,
        rows: int = 1,
        capacity: int = 64,
        session: ort.InferenceSession | None = None,
    ) -> None:
        self._session = session or open_session(directory / conversion.graph_file)
        self._slabs = [np.zeros(shape, np.float32) for shape in state_shapes(conversion.states, rows, capacity)]
        self._past = graph.past_names(conversion.states)
        self._present = graph.present_names(conversion.states)
        self._has_fixed_states = any(state.kind != "kv" for state in conversion.states)
        self.lengths = [0] * rows

    def run(
        self, ids: NDArray[np.int64], rows: slice | None = None, active: Sequence[bool] | None = None
    ) -> NDArray[np.float32]:
        """Feed ids [B, S] to the rows; logits [B * S, vocab] of every token. active: the rows that are not idle."""
        rows = rows or slice(0, len(ids))
        active = active or [True] * len(ids)
        lengths = np.array(self.lengths[rows], np.int32) + ids.shape[1]
        self.lengths[rows] = list(np.where(active, lengths, self.lengths[rows]))
        binding = self._session.io_binding()
        binding.bind_cpu_input(graph.INPUT_IDS, ids)
        binding.bind_cpu_input(graph.SEQLENS_K, lengths - 1)
        binding.bind_cpu_input(graph.TOTAL_SEQUENCE_LENGTH, np.array(lengths.max(), np.int32))
        binding.bind_cpu_input(graph.LOGITS_INDICES, np.arange(ids.size))
        if self._has_fixed_states:
            binding.bind_cpu_input(graph.ACTIVE_ROWS, np.array(active, np.float32))
        binding.bind_output(graph.LOGITS)
        for past, present, slab in zip(self._past, self._present, self._slabs, strict=True):
            view = slab[rows]
            place = (view.shape, view.ctypes.data)
            binding.bind_input(past, "cpu", 0, np.float32, *place)
            binding.bind_output(present, "cpu", 0, np.float32, *place)
        self._session.run_with_iobinding(binding)
        return binding.copy_outputs_to_cpu()[0]

    def fixed_states(self, row: int) -> list[bytes]:
        """The states of a row that are not keys and values."""
        return [
            slab[row].tobytes() for name, slab in zip(self._past, self._slabs, strict=True) if name.endswith("state")
        ]


def own_session(directory: Path, conversion: Conversion, threads: int = 1) -> ort.InferenceSession:
    """A session of infrs's kernels, keys and values in 32 bits."""
    session = create_session(directory / conversion.graph_file, threads)
    assert kernels_of(session), "infrs's kernels are not in use: were they built? See CONTRIBUTING.md"
    return session


class PlainRunner:
    """One sequence through Optimum's plain graph, the present fed back as past."""

    def __init__(self, directory: Path, conversion: Conversion) -> None:
        self._session = open_session(directory / conversion.graph_file)
        self._inputs = {item.name for item in self._session.get_inputs()}
        [(num_kv_heads, head_dim)] = {state.shape for state in conversion.states}
        empty = np.zeros((1, num_kv_heads, 0, head_dim), np.float32)
        self._past = dict.fromkeys(graph.past_names(conversion.states), empty)
        self._present = graph.present_names(conversion.states)
        self._length = 0

    def run(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Feed ids [1, S]; logits [S, vocab]."""
        positions = np.arange(self._length, self._length + ids.shape[1])[None]
        self._length += ids.shape[1]
        feeds = {graph.INPUT_IDS: ids, graph.ATTENTION_MASK: np.ones((1, self._length), np.int64), **self._past}
        if graph.POSITION_IDS in self._inputs:
            feeds[graph.POSITION_IDS] = positions
        names = [item.name for item in self._session.get_outputs()]
        outputs = dict(zip(names, self._session.run(names, feeds), strict=True))
        self._past = {past: outputs[name] for past, name in zip(self._past, self._present, strict=True)}
        return outputs[graph.LOGITS][0]
