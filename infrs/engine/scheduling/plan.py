"""The plan of a step and its results. A plan is a value: making one changes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from infrs.core import Delta
from infrs.engine.scheduling.placement import Placement
from infrs.engine.scheduling.snapshots import Snapshot
from infrs.engine.sequence import Sequence
from infrs.engine.speculation.drafter import Draft


@dataclass(frozen=True, slots=True)
class Copy:
    """Copy the states of the first `num_tokens` tokens of row `source` to row `target`.

    `snapshot`: the number of the snapshot with the states that cannot be truncated; None for those of the row itself.
    `needed_by` is the sequence that fails if the copy fails. None: the copy only keeps cached tokens.
    """

    source: int
    target: int
    num_tokens: int
    needed_by: Sequence | None = None
    snapshot: int | None = None


@dataclass(frozen=True, slots=True)
class Decode:
    """Compute one token of each decoding sequence, in one run over rows `first .. first + len(rows)`.

    rows: None where an idle row lies between or fills up the run. positions: where each row is written. draft: of a
    sequence that decodes alone, the plan of the tokens to verify in the same run; None if there is no room for any.
    """

    first: int
    rows: tuple[Sequence | None, ...]
    positions: tuple[int, ...]
    draft: Draft | None = None


@dataclass(frozen=True, slots=True)
class Prefill:
    """Compute tokens `start .. end` of one sequence in one run, behind a prefix that may be copied from another row.

    The tokens are the prompt's and, of a preempted sequence, the answer's too. There are none if the prefix is all
    that a preempted sequence has computed. If the run completes the prompt, `samples` is true, and `siblings` are the
    copies to other answers of the request, which begin with the same scores.
    snapshots: all that the row has after the run; None if all states can be truncated. saved: the number of the one
    that is saved after the run.
    """

    sequence: Sequence
    row: int
    start: int
    end: int
    samples: bool
    prefix: Copy | None = None
    siblings: tuple[Copy, ...] = ()
    snapshots: tuple[Snapshot, ...] | None = None
    saved: int | None = None


@dataclass(frozen=True, slots=True)
class StepPlan:
    """The work of one step, in order, and the placement that the scheduler has if all of it succeeds.

    Rows that the step prefills cache in `placement` what they cache before the run.
    """

    copies: tuple[Copy, ...]
    decode: Decode | None
    prefills: tuple[Prefill, ...]
    preempted: tuple[Sequence, ...]
    placement: Placement


@dataclass(slots=True)
class StepResults:
    """The results of a step. lost_rows: the errors of failed copies, by target row. draft: the plan's, completed."""

    deltas: list[Delta] = field(default_factory=list)
    finished: list[Sequence] = field(default_factory=list)
    failed: set[Sequence] = field(default_factory=set)
    lost_rows: dict[int, Exception] = field(default_factory=dict)
    draft: Draft | None = None
    num_draft_tokens: int = 0
    num_accepted_tokens: int = 0

    def not_failed(self, sequences: Iterable[Sequence | None]) -> list[Sequence]:
        """Return the sequences that have not failed in this step; None stands for an idle row."""
        return [sequence for sequence in sequences if sequence is not None and sequence not in self.failed]
