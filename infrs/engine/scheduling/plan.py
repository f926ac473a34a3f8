"""A step's plan: a value that says what the runner will be asked, and of which sequences."""

from __future__ import annotations

from dataclasses import dataclass

from infrs.engine.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Copy:
    """The first `num_tokens` keys and values of row `source` go to row `target`."""

    source: int
    target: int
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Decode:
    """One token for each decoding sequence, in one run over rows `first .. first + len(rows)`.

    A place is None where an idle row lies between or fills up; `positions` says where each row is written. `guess`, of
    a sequence that decodes alone: tokens to check in the same run.
    """

    first: int
    rows: tuple[Sequence | None, ...]
    positions: tuple[int, ...]
    guess: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Prefill:
    """Known tokens `start .. end` of one sequence in one run, on top of a prefix copied from another row.

    They are its prompt's, and if it was put out of a slot its answer's too.
    """

    sequence: Sequence
    row: int
    start: int
    end: int
    prefix: Copy | None = None

    @property
    def draws(self) -> bool:
        """Whether the prompt is complete after this chunk, so that its last position is scored and a token drawn."""
        return self.end == self.sequence.num_prompt_tokens and not self.sequence.output_ids


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What one step does, in this order."""

    moves: tuple[Copy, ...]
    decode: Decode | None
    prefills: tuple[Prefill, ...]
