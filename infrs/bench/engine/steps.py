"""Measure the parts of an engine's decode steps, at a number of rows and a context length."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from infrs.bench.engine.timing import Stopwatch
from infrs.core import Request, SamplingParams
from infrs.engine.engine import Engine
from infrs.engine.output import TextDecoder
from infrs.engine.runners.runner import Runner
from infrs.engine.scheduling.planner import SchedulingPolicy
from infrs.engine.sequence import Sequence
from infrs.errors import InfrsError

# Rows copy whole chunks of a shared prompt. With a small chunk, all rows start soon after the first.
_CHUNK = 32
_UNBOUNDED = 1 << 30

_P = ParamSpec("_P")
_R = TypeVar("_R")


class ProfileError(InfrsError):
    """The engine did not run the steps to measure."""

    code = "profile_failed"


@dataclass(frozen=True, slots=True)
class StepTimes:
    """The median seconds of a decode step and of its parts.

    context: tokens a row holds, on average over the steps. session: inside ONNX Runtime. binding: the rest of the
    runner. runs: half-open range of the session's runs, as RunCounter numbers them, that the steps made.
    """

    rows: int
    context: int
    step: float
    session: float
    binding: float
    sampling: float
    detokenising: float
    scheduling: float
    runs: tuple[int, int]

    @property
    def outside(self) -> float:
        """Return the seconds of a step outside ONNX Runtime."""
        return self.step - self.session

    @property
    def rest(self) -> float:
        """Return the seconds of a step outside its parts, such as for committing tokens and making deltas."""
        return self.outside - self.binding - self.sampling - self.detokenising - self.scheduling

    @property
    def tokens_per_s(self) -> float:
        """Return the output tokens a second of the engine alone."""
        return self.rows / self.step


class RunCounter:
    """A counter of a session's runs, to find them in its profile."""

    def __init__(self, session: object) -> None:
        self.count = 0
        for name in ("run", "run_with_iobinding"):
            setattr(session, name, self._counted(getattr(session, name)))

    def _counted(self, run: Callable[_P, _R]) -> Callable[_P, _R]:
        def counted(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            self.count += 1
            return run(*args, **kwargs)

        return counted


@dataclass(frozen=True, slots=True)
class Bench:
    """A runner to measure, its session, and a factory of detokenizers."""

    runner: Runner
    session: Any
    counter: RunCounter
    new_decoder: Callable[[], TextDecoder]

    def measure(self, prompt_ids: tuple[int, ...], rows: int, num_steps: int) -> StepTimes:
        """Measure `num_steps` decode steps of `rows` rows with contexts about as long as `prompt_ids`.

        Raises ProfileError if the rows end earlier.
        """
        engine = self._decoding(prompt_ids, rows, num_steps)
        contexts, taken, first_run = [], [], self.counter.count
        for _ in range(num_steps):
            contexts += [sequence.tokens.num_computed for sequence in engine.scheduler.running]
            taken.append(self._timed_step(engine))
        if len(engine.scheduler.running) < rows:
            raise ProfileError("the rows ended while they were measured: the context is too short; measure fewer steps")
        median = {part: statistics.median(step.seconds[part] for step in taken) for part in taken[0].seconds}
        return StepTimes(
            rows=rows,
            context=round(statistics.mean(contexts)),
            step=median["step"],
            session=median["run"] + median["run_with_iobinding"],
            binding=median["runner"] - median["run"] - median["run_with_iobinding"],
            sampling=median["sampling"],
            detokenising=median["detokenising"],
            scheduling=median["scheduling"],
            runs=(first_run, self.counter.count),
        )

    def _decoding(self, prompt_ids: tuple[int, ...], rows: int, num_steps: int) -> Engine:
        """Return an engine in which all rows are decoding."""
        no_drafts = SchedulingPolicy(drafts=False)  # the step to measure has one token per row
        engine = Engine(self.runner, self.new_decoder, frozenset(), _CHUNK, no_drafts)
        prompt = prompt_ids[: round((len(prompt_ids) - num_steps / 2) / _CHUNK) * _CHUNK + 1]
        greedy = SamplingParams(temperature=0)
        for row in range(rows):
            engine.submit(Request(str(row), prompt, max_tokens=_UNBOUNDED, sampling=greedy, ignore_eos=True))
        while engine.scheduler.waiting or any(sequence.tokens.is_prefilling for sequence in engine.scheduler.running):
            engine.step()
        engine.step()  # the first step of all rows makes their binding
        return engine

    def _timed_step(self, engine: Engine) -> Stopwatch:
        watch = Stopwatch()
        calls = {
            "runner": (self.runner, "run"),
            "run": (self.session, "run"),
            "run_with_iobinding": (self.session, "run_with_iobinding"),
            "sampling": (Sequence, "sample"),
            "detokenising": (type(self.new_decoder()), "feed"),
            "scheduling": (engine.scheduler, "plan"),
        }
        with watch.watching(calls):
            begin = time.perf_counter()
            engine.step()
            watch.seconds["step"] = time.perf_counter() - begin
        return watch
