"""The scheduler: which sequences have a row, and what the next step computes."""

from __future__ import annotations

from collections import deque

from infrs.engine.plan import Decode, Move, Prefill, StepPlan
from infrs.engine.sequence import Sequence


class Scheduler:
    """First come, first served, over `num_rows` rows.

    `running` holds the sequences that have a row, in the order they got it. A prompt is cut at multiples of
    `prefill_chunk` whatever the load, so that its arithmetic never depends on its companions; a step computes at
    most one chunk's worth of prompt tokens, which bounds the wait of the rows that decode.
    """

    def __init__(self, num_rows: int, min_rows: int, prefill_chunk: int) -> None:
        self.num_rows = num_rows
        self.running: list[Sequence] = []
        self.waiting: deque[Sequence] = deque()
        self._min_rows = min_rows
        self._prefill_chunk = prefill_chunk

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs or waits."""
        return not self.running and not self.waiting

    def find(self, request_id: str) -> Sequence | None:
        """The sequence of a request that runs or waits."""
        everyone = (*self.running, *self.waiting)
        return next((sequence for sequence in everyone if sequence.request.request_id == request_id), None)

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence; its row is free at once."""
        (self.waiting if sequence.row is None else self.running).remove(sequence)
        sequence.row = None

    def plan(self) -> StepPlan | None:
        """Give rows to those who wait and plan a step; None if there is nothing to do."""
        rows = self._rows()
        while self.waiting and None in rows:
            sequence = self.waiting.popleft()
            sequence.row = rows.index(None)
            rows[sequence.row] = sequence
            self.running.append(sequence)
        if not self.running:
            return None
        moves = _compact(rows)
        return StepPlan(moves, self._plan_decode(rows), self._plan_prefills())

    def _rows(self) -> list[Sequence | None]:
        rows: list[Sequence | None] = [None] * self.num_rows
        for sequence in self.running:
            if sequence.row is not None:
                rows[sequence.row] = sequence
        return rows

    def _plan_decode(self, rows: list[Sequence | None]) -> Decode | None:
        decoding = _decoding_rows(rows)
        if not decoding:
            return None
        first = decoding[0]
        count = max(decoding[-1] + 1 - first, self._min_rows)
        span = (rows + [None] * self._min_rows)[first : first + count]
        return Decode(
            first,
            rows=tuple(None if sequence is None or sequence.is_prefilling else sequence for sequence in span),
            positions=tuple(sequence.num_computed_tokens if sequence else 0 for sequence in span),
        )

    def _plan_prefills(self) -> tuple[Prefill, ...]:
        chunk = self._prefill_chunk
        budget = chunk
        prefills = []
        for sequence in self.running:
            if not sequence.is_prefilling:
                continue
            start = sequence.num_computed_tokens
            end = min((start // chunk + 1) * chunk, sequence.num_prompt_tokens)
            if end - start > budget:
                break
            budget -= end - start
            prefills.append(Prefill(sequence, start, end))
        return tuple(prefills)


def _decoding_rows(rows: list[Sequence | None]) -> list[int]:
    return [row for row, sequence in enumerate(rows) if sequence is not None and not sequence.is_prefilling]


def _compact(rows: list[Sequence | None]) -> tuple[Move, ...]:
    """Fill free rows between decoding ones with the last of these: an idle row costs as much as a busy one."""
    moves = []
    decoding = _decoding_rows(rows)
    while decoding:
        source = decoding.pop()
        target = next((row for row in range(decoding[0] if decoding else source, source) if rows[row] is None), None)
        sequence = rows[source]
        if target is None or sequence is None:
            break
        rows[source], rows[target] = None, sequence
        sequence.row = target
        moves.append(Move(source, target, sequence.num_computed_tokens))
    return tuple(moves)
