"""Engines with a draft model, over runners without a graph (`shadow`). Time passes as runs are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import synthetic
from shadow import EOS, ShadowRunner

from infrs.engine.engine import Engine
from infrs.engine.runners.runner import Runner, Segment
from infrs.engine.runners.session import Logits
from infrs.engine.speculation.draft_model import DraftModel
from infrs.engine.speculation.timed import TimedRunner

CHUNK = 16


@dataclass
class Clock:
    """A clock that a runner sets forward."""

    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Priced:
    """A runner with runs that take a time: `first` seconds for a token, `further` for each after it.

    wrong: of this many tokens, the scores of one are another token's. runs: all segments.
    """

    runner: ShadowRunner
    first: float
    further: float = 0.0
    wrong: int = 0
    clock: Clock = field(default_factory=Clock)
    runs: list[Segment] = field(default_factory=list)

    def run(self, segments: Sequence[Segment]) -> Logits:
        logits = self.runner.run(segments)
        self.runs += segments
        self.clock.seconds += self.first + self.further * (sum(len(each.input_ids) for each in segments) - 1)
        ends = [each.start + offset for each in segments for offset in each.scored]
        for row, end in zip(logits, ends, strict=True):
            if self.wrong and not (end * 7 + int(row.argmax())) % self.wrong:
                row[:] = np.roll(row, 1)
        return logits

    def __getattr__(self, name: str) -> object:
        return getattr(self.runner, name)

    def timed(self) -> TimedRunner:
        runner: Runner = self  # type: ignore[assignment]  # the other attributes are those of the shadow
        return TimedRunner(runner, self.clock)


@dataclass
class Drafted:
    """An engine, the runner of its sequences and that of its draft model, which is three times as fast."""

    num_rows: int = 3
    num_draft_rows: int = 2
    capacity: int = 160
    wrong: int = 0
    draft_seconds: float = 3.0

    def __post_init__(self) -> None:
        target = Priced(ShadowRunner(self.num_rows, 1, self.capacity, 1, chunk_invariant=True), 10.0, 0.5)
        shadow = ShadowRunner(self.num_draft_rows, 0, self.capacity, 1, chunk_invariant=True)
        self.target, self.draft = target, Priced(shadow, self.draft_seconds, 0.2, self.wrong)
        timed = target.timed()
        self.model = DraftModel(self.draft.timed(), timed, CHUNK)
        self.engine = Engine(timed, synthetic.Letters, frozenset({EOS}), CHUNK, draft_model=self.model)
        self.draft.runs.clear()
