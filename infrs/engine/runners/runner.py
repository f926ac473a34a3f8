"""The contract between the engine and a graph: segments of tokens in, logits out, over a store of states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from infrs.bundle.states import StateSize
from infrs.engine.runners.session import Logits, Tokens

_EXTRA_TOKENS = 16


class Segment(NamedTuple):
    """Consecutive tokens of one row.

    row: of the state store. start: position of the first token; all positions before it are stored.
    input_ids: the tokens, one or more. If empty, the row is idle: the runner may write keys and values to position
    `start`, where nothing is stored, and changes no other state.
    scored: the offsets into `input_ids` that get logits, ascending.
    """

    row: int
    start: int
    input_ids: Tokens
    scored: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the engine may expect of a runner.

    chunk_invariant: a token's bits do not depend on how its sequence is split into runs.
    min_rows: a run of fewer one-token rows may round differently; the engine adds idle rows.
    multi_token: one run may append several tokens to a row.
    truncatable: a row may be continued at any earlier position.
    """

    chunk_invariant: bool
    min_rows: int = 1
    multi_token: bool = True
    truncatable: bool = True

    @property
    def verifies_drafts(self) -> bool:
        """Whether several draft tokens can be checked in one run, and the rejected ones dropped."""
        return self.chunk_invariant and self.multi_token and self.truncatable


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a runner.

    num_rows: rows that `run` may address. capacity: tokens in a row. num_spare_rows: rows that only `store.copy` may
    address. num_snapshots: of the states that cannot be truncated.
    """

    num_rows: int
    capacity: int
    num_spare_rows: int = 0
    num_snapshots: int = 0

    def max_bytes(self, size: StateSize) -> int:
        """Return at least the bytes of all rows and snapshots: a runner adds a row, and some tokens to each."""
        all_rows = self.num_rows + self.num_spare_rows + 1
        return all_rows * size.of_row(self.capacity + _EXTRA_TOKENS) + self.num_snapshots * size.fixed


class StateStore(Protocol):
    """What the layers keep between runs, row by row."""

    @property
    def max_bytes(self) -> int:
        """Return the memory that it takes once all rows are full."""

    def copy(self, source: int, target: int, num_tokens: int, snapshot: int | None = None) -> None:
        """Copy the first `num_tokens` positions of row `source` to row `target`, which may be the same row.

        States that cannot be truncated are those of the source row, which must have exactly `num_tokens` tokens. If
        `snapshot` is given, they come from that snapshot, which was saved after `num_tokens` tokens.
        """

    def save(self, row: int, snapshot: int) -> None:
        """Save the states of a row that cannot be truncated as a snapshot. They cover all tokens of the row."""

    def release(self) -> None:
        """Return the memory of all rows to the system. No row stores anything afterwards."""


class Runner(Protocol):
    """Runs a graph over a state store.

    num_rows: rows that `run` may address. spare_rows: rows that only `store.copy` may address.
    num_snapshots: the number of snapshots in the store; 0 if every state can be truncated.
    capacity: positions in a row. kernels: see `kernels_of`. threads: the number of threads that compute.
    """

    num_rows: int
    spare_rows: range
    num_snapshots: int
    capacity: int
    kernels: str
    threads: int
    capabilities: Capabilities

    @property
    def store(self) -> StateStore:
        """The states of all rows."""

    def run(self, segments: Sequence[Segment]) -> Logits:
        """Append the tokens of each segment to its row and return the logits of the scored ones.

        The segments have different rows, and at least one has tokens. Segments of one token in neighbouring rows, in
        order, share one run of the graph. Any other segment has a run of its own.
        Returns float32 [number of scored tokens, vocab_size], in the order of the segments. The array is valid until
        the next call. Raises MemoryError, or ONNX Runtime's exceptions, which have no common type.
        """
