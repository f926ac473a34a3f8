"""Measure how long runs of one row take, from which the draft model's use is decided."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from infrs.engine.runners.runner import Runner, Segment, StateStore
from infrs.engine.runners.session import Logits

_MAX_FEW = 16  # tokens of a run that is measured by itself; longer runs are measured per token
_WEIGHT = 0.125  # of a new measurement
_GROWTH = 0.03  # of a run with each token, before it is measured: little, so that it is tried
_NUM_TRIALS = 3

Clock = Callable[[], float]


class Costs:
    """The seconds of a run of one row by its number of tokens: moving averages of what was measured."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        self._per_token: float | None = None  # of long runs

    def note(self, num_tokens: int, seconds: float) -> None:
        """Take note of a run."""
        if num_tokens > _MAX_FEW:
            self._per_token = _moved(self._per_token, seconds / num_tokens)
        else:
            self._seconds[num_tokens] = _moved(self._seconds.get(num_tokens), seconds)

    def of(self, num_tokens: int) -> float:
        """Return the seconds of a run: measured, or estimated from those with fewer tokens. One must be measured."""
        if num_tokens > _MAX_FEW and self._per_token is not None:
            return num_tokens * self._per_token
        if num_tokens in self._seconds:
            return self._seconds[num_tokens]
        nearest = max((each for each in self._seconds if each < num_tokens), default=min(self._seconds))
        return self._seconds[nearest] * (1 + _GROWTH * (num_tokens - nearest))


class TimedRunner:
    """A runner that measures its runs of one row. See `Runner`."""

    def __init__(self, runner: Runner, clock: Clock = time.perf_counter) -> None:
        """Measure a runner. A few runs of one token come first, which overwrite the beginning of row 0."""
        self.costs = Costs()
        self._runner, self._clock = runner, clock
        self.num_rows, self.spare_rows, self.num_snapshots = runner.num_rows, runner.spare_rows, runner.num_snapshots
        self.capacity, self.kernels, self.threads = runner.capacity, runner.kernels, runner.threads
        self.capabilities = runner.capabilities
        for _ in range(_NUM_TRIALS):
            self.run([Segment(0, 0, (0,), (0,))])

    @property
    def store(self) -> StateStore:
        """See Runner.store."""
        return self._runner.store

    def run(self, segments: Sequence[Segment]) -> Logits:
        """See Runner.run."""
        if len(segments) > 1:
            return self._runner.run(segments)
        began = self._clock()
        logits = self._runner.run(segments)
        self.costs.note(len(segments[0].input_ids), self._clock() - began)
        return logits


def _moved(average: float | None, value: float) -> float:
    """Return the average, moved towards a new value. A value that is far too large counts as twice the average."""
    return value if average is None else average + _WEIGHT * (min(value, 2 * average) - average)
