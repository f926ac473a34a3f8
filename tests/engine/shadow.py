"""A runner without a graph, in which every key and value tells all that it was computed from.

A cell stands for the keys and values of one position. It is a hash of its token, of all cells before it, of the tenant
in whose row it was computed and, where bits depend on how a sequence was cut into runs, of the run. So whoever reads
what is stale, half written, of another tenant or cut otherwise goes on to other tokens than `answer` has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from infrs.core import Request
from infrs.engine.runners.session import Logits, Tokens

VOCAB, EOS = 9, 0
LOST = -1  # what a position holds that nobody may read


@dataclass
class ShadowRunner:
    """See `infrs.engine.runners.runner.Runner`. A run fails when `fails_in` more have been made, half-way through."""

    num_rows: int
    num_spare_rows: int
    capacity: int
    min_rows: int
    chunk_invariant: bool
    tenant_of: Callable[[int], str] = lambda row: ""  # whose row it is now
    kernels: str = ""
    threads: int = 1
    fails_in: int | None = None
    broken: list[str] = field(default_factory=list)  # what should never have been asked

    def __post_init__(self) -> None:
        # One row and one position more than asked for, as `FusedRunner` has.
        self.spare_rows = range(self.num_rows + 1, self.num_rows + 1 + self.num_spare_rows)
        self.cells = [[LOST] * (self.capacity + 1) for _ in range(self.spare_rows.stop)]

    def decode(self, first: int, tokens: Tokens, positions: Tokens, scored: Tokens) -> Logits:
        """See Runner.decode."""
        places = list(enumerate(zip(tokens, positions, strict=True), first))
        self._may_fail([(row, range(position, position + 1)) for row, (_, position) in places])
        run = self.run_of(decoding=len(tokens))
        wanted = {first + place for place in scored}
        drawn = [self._append(row, token, at, run, readable=row in wanted) for row, (token, at) in places]
        return one_hot([token for token, (row, _) in zip(drawn, places, strict=True) if row in wanted])

    def prefill(self, row: int, tokens: Tokens, start: int, num_scored: int) -> Logits:
        """See Runner.prefill."""
        self._may_fail([(row, range(start, start + len(tokens)))])
        run = self.run_of(start, start + len(tokens))
        drawn = [self._append(row, token, start + place, run) for place, token in enumerate(tokens)]
        if self.min_rows > 1:
            self.cells[row][start + len(tokens)] = LOST  # the filling of a product of a single row
        return one_hot(drawn[len(drawn) - num_scored :])

    def copy_row(self, source: int, target: int, num_tokens: int) -> None:
        """See Runner.copy_row."""
        self._may_fail([(target, range(num_tokens))])
        self.cells[target][:num_tokens] = self.cells[source][:num_tokens]
        end = -(-num_tokens // 8) * 8  # whole groups are copied
        self.cells[target][num_tokens:end] = [LOST] * (min(end, self.capacity + 1) - num_tokens)

    def run_of(self, start: int = 0, end: int = 0, *, decoding: int = 0) -> int:
        """What a cell's bits have of its run: nothing, or the chunk's place, or how many rows a product had."""
        if self.chunk_invariant:
            return 0
        return min(decoding, self.min_rows) if decoding else 1000 * (start + 1) + end

    def _append(self, row: int, token: int, position: int, run: int, *, readable: bool = True) -> int:
        """Write a cell behind those before it, and draw a token from all of them."""
        if not readable:
            self.cells[row][position] = LOST
            return EOS
        before = self.cells[row][:position]
        if LOST in before:
            self.broken.append(f"position {before.index(LOST)} of row {row} was read and never written")
        before.append(cell(token, before, self.tenant_of(row), run))
        self.cells[row][position] = before[-1]
        return drawn_after(token, before)

    def _may_fail(self, writes: list[tuple[int, range]]) -> None:
        if self.fails_in is None:
            return
        self.fails_in -= 1
        if self.fails_in < 0:
            self.fails_in = None
            for row, positions in writes:
                self.cells[row][positions.start : positions.stop] = [LOST] * len(positions)
            raise MemoryError("a run that fails")


def cell(token: int, before: Sequence[int], tenant: str, run: int) -> int:
    """The cell of a token behind others: no hash of text, which Python salts."""
    return abs(hash((token, tuple(before), *map(ord, tenant), run)))


def drawn_after(token: int, cells: Sequence[int]) -> int:
    """The token that comes next: often the same after the same, so that guesses come true, and of all cells."""
    seen = abs(hash(tuple(cells)))
    if seen % 23 == 0:
        return EOS
    return 1 + (token if seen % 4 else seen // 4) % (VOCAB - 1)


def one_hot(tokens: list[int]) -> Logits:
    """Scores that greedy sampling draws these tokens from."""
    return np.eye(VOCAB, dtype=np.float32)[np.array(tokens, np.int64)]


def computed(tokens: Sequence[int], tenant: str, runner: ShadowRunner, chunk: int) -> list[int]:
    """The cells of a prompt that is computed alone, chunk by chunk."""
    cells: list[int] = []
    for start in range(0, len(tokens), chunk):
        run = runner.run_of(start, min(start + chunk, len(tokens)))
        for token in tokens[start : start + chunk]:
            cells.append(cell(token, cells, tenant, run))
    return cells


def answer(request: Request, runner: ShadowRunner, chunk: int) -> list[int]:
    """The tokens that a request gets when it is alone."""
    cells = computed(request.prompt_ids, request.tenant, runner, chunk)
    tokens: list[int] = []
    run = runner.run_of(decoding=runner.min_rows)
    while len(tokens) < request.max_tokens and len(cells) < runner.capacity:
        tokens.append(drawn_after((*request.prompt_ids, *tokens)[-1], cells))
        if tokens[-1] == EOS or len(request.prompt_ids) + len(tokens) >= runner.capacity:
            break
        cells.append(cell(tokens[-1], cells, request.tenant, run))
    return tokens
