"""A runner without a graph, in which every key and value depends on all that it was computed from.

A cell stands for the keys and values of one position. It is a hash of its token, of all cells before it and of the
tenant of its row. Where bits depend on how a sequence is cut into runs, it is a hash of the run too. A sequence that
reads a stale, half-written or differently cut cell gets other tokens than `answer` returns. So does a sequence that
reads a cell of another tenant. A state that cannot be truncated is the list of the cells that it covers. A run that
finds a state of other cells than those before it is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from infrs.core import Request
from infrs.engine.runners.runner import Capabilities, Segment
from infrs.engine.runners.session import Logits

VOCAB, EOS = 9, 0
LOST = -1  # the cell of a position that must not be read


@dataclass
class ShadowRunner:
    """See `infrs.engine.runners.runner.Runner`. After `fails_in` more runs and copies, one fails half-way through."""

    num_rows: int
    num_spare_rows: int
    capacity: int
    min_rows: int
    chunk_invariant: bool
    num_snapshots: int | None = None  # None: all states can be truncated
    tenant_of: Callable[[int], str] = lambda row: ""  # the tenant of a row in the running step
    kernels: str = ""
    threads: int = 1
    fails_in: int | None = None
    broken: list[str] = field(default_factory=list)  # reads of cells that were never written

    def __post_init__(self) -> None:
        # One row and one position more than asked for, as `FusedRunner` has.
        self.spare_rows = range(self.num_rows + 1, self.num_rows + 1 + self.num_spare_rows)
        self.cells = [[LOST] * (self.capacity + 1) for _ in range(self.spare_rows.stop)]
        # The states of each row, and behind them the snapshots.
        self.states: list[list[int]] = [[] for _ in range(self.spare_rows.stop + (self.num_snapshots or 0))]

    @property
    def capabilities(self) -> Capabilities:
        """See Runner.capabilities."""
        return Capabilities(self.chunk_invariant, self.min_rows, truncatable=self.num_snapshots is None)

    @property
    def store(self) -> ShadowRunner:
        """Return the runner itself, which stores the cells."""
        return self

    def run(self, segments: Sequence[Segment]) -> Logits:
        """See Runner.run."""
        self.may_fail([(s.row, range(s.start, s.start + max(len(s.input_ids), 1))) for s in segments])
        if len(segments) > 1:
            run = self.run_of(decoding=len(segments))
            return one_hot([token for segment in segments for token in self._run_one(segment, run)])
        [segment] = segments
        end = segment.start + len(segment.input_ids)
        drawn = self._run_one(segment, self.run_of(segment.start, end))
        if self.min_rows > 1:
            self.cells[segment.row][end] = LOST  # the padding of a product of a single row
        return one_hot(drawn)

    def _run_one(self, segment: Segment, run: int) -> list[int]:
        row, start, input_ids, scored = segment
        if not len(input_ids):
            self.cells[row][start] = LOST
        elif not start:
            self.states[row] = []
        drawn = [self._append(row, token, start + place, run) for place, token in enumerate(input_ids)]
        return [drawn[place] for place in scored]

    def copy(self, source: int, target: int, num_tokens: int, snapshot: int | None = None) -> None:
        """See StateStore.copy."""
        self.may_fail([(target, range(num_tokens))])
        self.states[target] = self.states[source if snapshot is None else self.spare_rows.stop + snapshot]
        if source == target:
            return
        self.cells[target][:num_tokens] = self.cells[source][:num_tokens]
        end = -(-num_tokens // 8) * 8  # whole groups are copied
        self.cells[target][num_tokens:end] = [LOST] * (min(end, self.capacity + 1) - num_tokens)

    def save(self, row: int, snapshot: int) -> None:
        """See StateStore.save."""
        self.may_fail([])
        self.states[self.spare_rows.stop + snapshot] = self.states[row]

    @property
    def max_bytes(self) -> int:
        """See StateStore.max_bytes."""
        return 0

    def release(self) -> None:
        """See StateStore.release."""
        self.cells = [[LOST] * len(cells) for cells in self.cells]
        self.states = [[] for _ in self.states]

    def run_of(self, start: int = 0, end: int = 0, *, decoding: int = 0) -> int:
        """Return a number for what bits depend on: nothing, the range of the chunk, or the number of decoding rows."""
        if self.chunk_invariant:
            return 0
        if end - start == 1 and self.min_rows == 1:
            decoding = 1  # a chunk of one token is the same run as a lone decoding row
        return min(decoding, self.min_rows) if decoding else 1000 * (start + 1) + end

    def _append(self, row: int, token: int, position: int, run: int) -> int:
        """Write the cell of a token, and return the next token, which depends on all cells so far."""
        before = self.cells[row][:position]
        if LOST in before:
            self.broken.append(f"position {before.index(LOST)} of row {row} was read and never written")
        if self.num_snapshots is not None:
            if self.states[row] != before:
                self.broken.append(f"the state of row {row} does not cover the {position} tokens before it")
            self.states[row] = [*before, cell(token, before, self.tenant_of(row), run)]
        before.append(cell(token, before, self.tenant_of(row), run))
        self.cells[row][position] = before[-1]
        return next_token(token, before)

    def may_fail(self, writes: list[tuple[int, range]]) -> None:
        if self.fails_in is None:
            return
        self.fails_in -= 1
        if self.fails_in < 0:
            self.fails_in = None
            for row, positions in writes:
                self.cells[row][positions.start : positions.stop] = [LOST] * len(positions)
                self.states[row] = [LOST]
            raise MemoryError("a run that fails")


def cell(token: int, before: Sequence[int], tenant: str, run: int) -> int:
    """Return the cell of a token after other cells. It hashes no text, because Python salts such hashes."""
    return abs(hash((token, tuple(before), *map(ord, tenant), run)))


def next_token(token: int, cells: Sequence[int]) -> int:
    """Return the next token. It depends on all cells, but is often the successor of `token`, as a draft expects."""
    seen = abs(hash(tuple(cells)))
    if seen % 23 == 0:
        return EOS
    return 1 + (token if seen % 4 else seen // 4) % (VOCAB - 1)


def one_hot(tokens: list[int]) -> Logits:
    """Return scores [len(tokens), VOCAB] from which greedy sampling draws these tokens."""
    return np.eye(VOCAB, dtype=np.float32)[np.array(tokens, np.int64)]


def computed(tokens: Sequence[int], tenant: str, runner: ShadowRunner, chunk: int) -> list[int]:
    """Return the cells of a prompt that is computed alone, in chunks of `chunk` tokens."""
    cells: list[int] = []
    for start in range(0, len(tokens), chunk):
        run = runner.run_of(start, min(start + chunk, len(tokens)))
        for token in tokens[start : start + chunk]:
            cells.append(cell(token, cells, tenant, run))
    return cells


def answer(request: Request, runner: ShadowRunner, chunk: int) -> list[int]:
    """Return the tokens that a request gets when it runs alone."""
    cells = computed(request.prompt_ids, request.tenant, runner, chunk)
    tokens: list[int] = []
    run = runner.run_of(decoding=runner.min_rows)
    while len(tokens) < request.max_tokens and len(cells) < runner.capacity:
        tokens.append(next_token((*request.prompt_ids, *tokens)[-1], cells))
        if tokens[-1] == EOS or len(request.prompt_ids) + len(tokens) >= runner.capacity:
            break
        cells.append(cell(tokens[-1], cells, request.tenant, run))
    return tokens
