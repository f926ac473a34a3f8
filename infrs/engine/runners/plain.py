"""The runner of the plain graph: Optimum's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from infrs.bundle import graph_signature as graph
from infrs.bundle.manifest import Manifest
from infrs.engine.runners.session import Logits, Session, Tokens, check_inputs, kernels_of, threads_of


class PlainRunner:
    """Runs Optimum's own graph, one row at a time: slower, but any architecture that Optimum exports.

    A row's keys and values are the arrays that its last run returned, [1, num_kv_heads, length, head_dim].
    """

    min_rows = 1
    chunk_invariant = False

    def __init__(
        self,
        session: Session,
        manifest: Manifest,
        *,
        num_rows: int,
        capacity: int,
        num_spare_rows: int = 0,
    ) -> None:
        geometry = manifest.kv
        self._past_names = graph.past_names(geometry.num_layers)
        self._outputs = [graph.LOGITS, *graph.present_names(geometry.num_layers)]
        check_inputs(session, {graph.INPUT_IDS, graph.ATTENTION_MASK, *self._past_names}, {graph.POSITION_IDS})
        self.kernels = kernels_of(session)
        self.threads = threads_of(session)
        self._takes_positions = graph.POSITION_IDS in {node.name for node in session.get_inputs()}
        self._session = session
        empty = np.zeros((1, geometry.num_kv_heads, 0, geometry.head_dim), dtype=np.float32)
        self.spare_rows = range(num_rows, num_rows + num_spare_rows)
        self._rows: list[list[npt.NDArray[np.float32]]] = [
            [empty] * len(self._past_names) for _ in range(self.spare_rows.stop)
        ]
        self.num_rows = num_rows
        self.capacity = capacity

    def decode(self, first: int, tokens: Tokens, positions: Tokens, scored: Tokens) -> Logits:
        """See Runner.decode."""
        return np.concatenate([self._run(first + i, tokens[i : i + 1], positions[i]) for i in scored])

    def prefill(self, row: int, tokens: Tokens, start: int, num_scored: int) -> Logits:
        """See Runner.prefill."""
        return self._run(row, tokens, start)[len(tokens) - num_scored :]

    def copy_row(self, source: int, target: int, num_tokens: int) -> None:
        """See Runner.copy_row. The arrays are never written again, so the rows may share them."""
        self._rows[target] = [array[:, :, :num_tokens] for array in self._rows[source]]

    def _run(self, row: int, tokens: Tokens, start: int) -> Logits:
        size = len(tokens)
        feeds: dict[str, Any] = {
            graph.INPUT_IDS: np.array([tokens], dtype=np.int64),
            graph.ATTENTION_MASK: np.ones((1, start + size), dtype=np.int64),
        }
        if self._takes_positions:
            feeds[graph.POSITION_IDS] = np.arange(start, start + size, dtype=np.int64)[None, :]
        feeds |= {name: array[:, :, :start] for name, array in zip(self._past_names, self._rows[row], strict=True)}
        logits, *self._rows[row] = self._session.run(self._outputs, feeds)
        return np.asarray(logits[0], dtype=np.float32)
