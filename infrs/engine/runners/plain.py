"""The runner of the plain graph, which Optimum exports without changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from infrs.bundle import graph_signature as graph
from infrs.bundle.manifest import Manifest
from infrs.bundle.states import LayerState, size_of
from infrs.engine.runners.runner import Capabilities, Rows, Segment
from infrs.engine.runners.session import Logits, Session, check_inputs, kernels_of, threads_of


class RowArrays:
    """Keys and values as the last run of each row returned them.

    `rows[i]` has the order of `infrs.bundle.graph_signature.past_names`; an array is float32
    [1, num_kv_heads, length, head_dim]. Runs return new arrays, so rows may share them.
    """

    def __init__(self, states: Sequence[LayerState], num_rows: int, capacity: int) -> None:
        shapes = [(1, num_kv_heads, 0, head_dim) for num_kv_heads, head_dim in (state.shape for state in states)]
        self._empty = [np.zeros(shape, dtype=np.float32) for shape in shapes for _ in ("key", "value")]
        self.rows: list[list[npt.NDArray[np.float32]]] = [[*self._empty] for _ in range(num_rows)]
        self.max_bytes = num_rows * size_of(states, "float32").of_row(capacity)

    def copy(self, source: int, target: int, num_tokens: int, snapshot: int | None = None) -> None:
        """See StateStore.copy. There are no snapshots, because keys and values can be truncated."""
        self.rows[target] = [array[:, :, :num_tokens] for array in self.rows[source]]

    def save(self, row: int, snapshot: int) -> None:
        """See StateStore.save."""

    def release(self) -> None:
        """See StateStore.release."""
        self.rows = [[*self._empty] for _ in self.rows]


class PlainRunner:
    """Run the plain graph, one segment at a time. Slower, but for any architecture that Optimum exports."""

    capabilities = Capabilities(chunk_invariant=False)
    num_snapshots = 0

    def __init__(self, session: Session, manifest: Manifest, rows: Rows) -> None:
        self._past_names = graph.past_names(manifest.states)
        self._outputs = [graph.LOGITS, *graph.present_names(manifest.states)]
        check_inputs(session, {graph.INPUT_IDS, graph.ATTENTION_MASK, *self._past_names}, {graph.POSITION_IDS})
        self.kernels = kernels_of(session)
        self.threads = threads_of(session)
        self._takes_positions = graph.POSITION_IDS in {node.name for node in session.get_inputs()}
        self._session = session
        self.spare_rows = range(rows.num_rows, rows.num_rows + rows.num_spare_rows)
        self.store = RowArrays(manifest.states, self.spare_rows.stop, rows.capacity)
        self.num_rows = rows.num_rows
        self.capacity = rows.capacity

    def run(self, segments: Sequence[Segment]) -> Logits:
        """See Runner.run. Idle rows are skipped."""
        logits = [self._run(segment) for segment in segments if len(segment.input_ids)]
        return logits[0] if len(logits) == 1 else np.concatenate(logits)

    def _run(self, segment: Segment) -> Logits:
        start, end = segment.start, segment.start + len(segment.input_ids)
        feeds: dict[str, Any] = {
            graph.INPUT_IDS: np.array([segment.input_ids], dtype=np.int64),
            graph.ATTENTION_MASK: np.ones((1, end), dtype=np.int64),
        }
        if self._takes_positions:
            feeds[graph.POSITION_IDS] = np.arange(start, end, dtype=np.int64)[None, :]
        rows = self.store.rows
        feeds |= {name: array[:, :, :start] for name, array in zip(self._past_names, rows[segment.row], strict=True)}
        logits, *rows[segment.row] = self._session.run(self._outputs, feeds)
        scored = np.asarray(segment.scored, dtype=np.intp)
        chosen = logits[0] if len(scored) == len(segment.input_ids) else logits[0, scored]
        return np.asarray(chosen, dtype=np.float32)
