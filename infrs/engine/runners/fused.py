"""The runner of the fused graph, over a slab that is bound in place."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from infrs.bundle import graph_signature as graph
from infrs.bundle.manifest import Manifest
from infrs.engine.runners.runner import Capabilities, Rows, Segment
from infrs.engine.runners.session import (
    Binding,
    Logits,
    Session,
    Tokens,
    check_inputs,
    fallback_nodes,
    kernels_of,
    stored_dtype,
    threads_of,
)
from infrs.engine.runners.slab import Slab

logger = logging.getLogger(__name__)

# MLAS splits a product into tiles of this many rows. On some CPUs the kernel for a tile of one row rounds differently
# (measured for MatMulNBits with 4 bits on AVX2 without VNNI).
_TILE_ROWS = 128

_UNBOUND: tuple[tuple[int, ...], npt.NDArray[Any]] = (-1,), np.empty(0)


class FusedRunner:
    """Run the fused graph. A step copies no keys or values: the graph writes them to the slab."""

    def __init__(self, session: Session, manifest: Manifest, rows: Rows) -> None:
        num_rows, capacity = rows.num_rows, rows.capacity
        states = manifest.states
        past = graph.past_names(states)
        required = {graph.INPUT_IDS, graph.SEQLENS_K, graph.TOTAL_SEQUENCE_LENGTH, graph.LOGITS_INDICES, *past}
        self._has_fixed_states = any(state.kind != "kv" for state in states)
        check_inputs(session, required | {graph.ACTIVE_ROWS} if self._has_fixed_states else required)
        self._session = session
        self._state_names = list(zip(past, graph.present_names(states), strict=True))
        # One row and one position more than requested, for the filling of products of a single row.
        self.spare_rows = range(num_rows + 1, num_rows + 1 + rows.num_spare_rows)
        truncatable = all(state.truncatable for state in states)
        self.num_snapshots = 0 if truncatable else rows.num_snapshots
        self.store = Slab(states, self.spare_rows.stop, capacity + 1, stored_dtype(session), self.num_snapshots)
        self._bindings: dict[tuple[int, int], _Bound] = {}
        self._total = np.zeros((), dtype=np.int32)
        self._logits = np.empty((num_rows + 1, manifest.vocab_size), dtype=np.float32)
        self.num_rows = num_rows
        self.capacity = capacity
        self.kernels = kernels_of(session)
        self.threads = threads_of(session)
        self._fills = False  # whether products of a single row are filled up, because they round differently
        self._shares_runs = manifest.batch_invariant
        if self._shares_runs and not self._single_row_agrees():
            # A token that fills up a product would advance a state that is not overwritten.
            self._fills, self._shares_runs = truncatable, truncatable
        self.capabilities = Capabilities(
            chunk_invariant=bool(self.kernels) and not fallback_nodes(session) and manifest.chunk_invariant,
            min_rows=2 if self._fills else 1,
            truncatable=truncatable,
        )
        alone = "a row alone has the same bits as in a batch"
        filled = "a row alone has other bits than in a batch, so an idle row runs with it"
        apart = "a row's bits depend on its batch, so each row runs by itself"
        logger.info("batch-invariant: %s", apart if not self._shares_runs else filled if self._fills else alone)

    def run(self, segments: Sequence[Segment]) -> Logits:
        """See Runner.run. A decode step is one pass over its segments."""
        if len(segments) == 1:
            return self._run_row(segments[0])
        first = segments[0].row
        tokens, ends, scored, active = [], [], [], []
        for place, (row, start, input_ids, offsets) in enumerate(segments):
            if len(input_ids) > 1 or row != first + place or not self._shares_runs:
                alone = ([segment] for segment in segments if len(segment.input_ids))
                runs = _session_runs(segments) if self._shares_runs else alone
                return np.concatenate([self.run(part).copy() for part in runs])
            tokens.append(input_ids[0] if len(input_ids) else 0)
            ends.append(start)
            active.append(len(input_ids))
            if len(offsets):
                scored.append(place)
        if self._has_fixed_states:
            self._begin(segments)
        return self._run(first, (len(tokens), 1), tokens, ends, scored, active)

    def _run_row(self, segment: Segment) -> Logits:
        """Run one segment. A product of a single row is filled up where that rounds differently."""
        row, start, input_ids, scored = segment
        active = (len(input_ids) and 1,)
        if self._has_fixed_states:
            self._begin([segment])
        if not len(input_ids):
            input_ids = (0,)
        if self._fills and len(input_ids) % _TILE_ROWS == 1:
            input_ids = (*input_ids, input_ids[-1])  # written past the end, where the next token overwrites it
        return self._run(row, (1, len(input_ids)), input_ids, (start + len(input_ids) - 1,), scored, active)

    def _begin(self, segments: Sequence[Segment]) -> None:
        """Clear the states of rows that begin."""
        for segment in segments:
            if not segment.start and len(segment.input_ids):
                self.store.begin(segment.row)

    def _run(  # noqa: PLR0917
        self, first: int, shape: tuple[int, int], tokens: Tokens, ends: Tokens, scored: Tokens, active: Tokens
    ) -> Logits:
        """Run the session once on tokens of shape [rows, size], given flat like the indices `scored` into them.

        `ends` holds the position of each row's last token, `active` 1 for each row that is not idle. A decode step
        passes few tokens, and plain Python integers keep its cost low. A numpy operation takes 20 microseconds there,
        because the weights of the model have evicted its code from the processor's caches.
        """
        num_scored = len(scored)
        if not num_scored:
            scored = (0,)  # a graph that scores nothing is not worth another case
        elif self._fills and num_scored % _TILE_ROWS == 1:
            scored = (*scored, scored[-1])
        self._total[()] = max(ends) + 1
        bound = self._bound_rows(first, shape[0])
        bound.feed(graph.INPUT_IDS, np.int64, shape, tokens)
        bound.feed(graph.SEQLENS_K, np.int32, shape[:1], ends)
        bound.feed(graph.LOGITS_INDICES, np.int64, (len(scored),), scored)
        if self._has_fixed_states:
            bound.feed(graph.ACTIVE_ROWS, np.float32, shape[:1], active)
        if len(scored) > len(self._logits):
            self._logits = np.empty((len(scored), self._logits.shape[1]), dtype=np.float32)
        logits = bound.logits
        if logits is None or len(logits) != len(scored) or logits.base is not self._logits:
            bound.logits, logits = None, self._logits[: len(scored)]
            _bind_output(bound.binding, graph.LOGITS, logits)
            bound.logits = logits
        self._session.run_with_iobinding(bound.binding)
        return logits[:num_scored]

    def _bound_rows(self, first: int, rows: int) -> _Bound:
        """Return the binding of a range of rows, which is kept: making it costs a third of a small model's step."""
        key = (first, rows)
        if key not in self._bindings:
            bound = _Bound(self._session.io_binding())
            _bind_input(bound.binding, graph.TOTAL_SEQUENCE_LENGTH, self._total)
            for (past, present), array in zip(self._state_names, self.store.arrays, strict=True):
                _bind_state(bound.binding, past, present, array[first : first + rows])
            self._bindings[key] = bound
        return self._bindings[key]

    def _single_row_agrees(self) -> bool:
        """Return whether a row alone gives the same bits as next to another on this CPU."""
        segments = [Segment(row, 0, (0,), (0,)) for row in range(2)]
        alone = self.run(segments[:1]).copy()
        beside = self.run(segments)[:1]
        return bool(np.array_equal(alone, beside))


def _session_runs(segments: Sequence[Segment]) -> list[list[Segment]]:
    """Split segments into runs of the session: neighbouring rows of one token each, or one row of several tokens."""
    runs: list[list[Segment]] = []
    next_row = -1  # the row that may join the last run
    for segment in segments:
        is_single = len(segment.input_ids) <= 1
        if is_single and segment.row == next_row:
            runs[-1].append(segment)
        else:
            runs.append([segment])
        next_row = segment.row + 1 if is_single else -1
    return runs


class _Bound:
    """A binding, and the arrays that are bound by address and must live as long as it.

    An array is recorded after it is bound, because the step may fail before.
    """

    def __init__(self, binding: Binding) -> None:
        self.binding = binding
        self._inputs: dict[str, tuple[tuple[int, ...], npt.NDArray[Any]]] = {}  # the values of a shape, flat
        self.logits: Logits | None = None  # where the scores are written

    def feed(self, name: str, dtype: type[np.number[Any]], shape: tuple[int, ...], values: Tokens) -> None:
        """Set an input. If its shape is the same as in the last run, the array is already bound."""
        bound_shape, array = self._inputs.get(name, _UNBOUND)
        if bound_shape != shape:
            self._inputs.pop(name, None)
            array = np.empty(len(values), dtype=dtype)
            _bind_input(self.binding, name, array.reshape(shape))
            self._inputs[name] = shape, array
        array[:] = values


def _bind_input(binding: Binding, name: str, array: npt.NDArray[Any]) -> None:
    binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)


def _bind_output(binding: Binding, name: str, array: npt.NDArray[Any]) -> None:
    binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)


def _bind_state(binding: Binding, past: str, present: str, view: npt.NDArray[Any]) -> None:
    """Bind rows of the store as past and present. The graph declares them as float32, also if they have 16 bits."""
    shape = view.shape
    if view.itemsize < 4:
        rows, num_kv_heads, capacity, head_dim = shape
        shape = (rows, num_kv_heads, capacity * view.itemsize // 4, head_dim)
    binding.bind_input(past, "cpu", 0, np.float32, shape, view.ctypes.data)
    binding.bind_output(present, "cpu", 0, np.float32, shape, view.ctypes.data)
