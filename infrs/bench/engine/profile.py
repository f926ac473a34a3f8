"""Profile a bundle: steps in a plain session, operators in a profiled one, and the machine's limits."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rich.progress import Progress

from infrs.bench.engine.operators import OperatorTime, Profile
from infrs.bench.engine.roofline import Bound, Machine, bound, measure_machine
from infrs.bench.engine.steps import Bench, ProfileError, RunCounter, StepTimes
from infrs.bundle.manifest import Manifest, chat_manifest, read_manifest
from infrs.engine.runners.opening import new_runner, open_session, state_size
from infrs.engine.runners.runner import Rows, Segment
from infrs.text.detokenizer import Detokenizer
from infrs.text.tokenizer import Tokenizer

_PROFILED_STEPS = 4
_PROMPT = 512
_SLACK = 64  # tokens decoded while the rows begin, and in steps that are not measured
_TEXT = "Where does the time of one step go? Measure it, divide it, and compare it with the limit. "


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a profile: each number of rows at each context, `num_steps` steps each."""

    rows: Sequence[int]
    contexts: Sequence[int]
    num_steps: int
    threads: int = 0


@dataclass(frozen=True, slots=True)
class Case:
    """The measurements for one number of rows at one context length."""

    times: StepTimes
    operators: Sequence[OperatorTime]
    bound: Bound


@dataclass(frozen=True, slots=True)
class Result:
    """The profile of a bundle. machine: as measured. peak: multiply-adds a second of its products on a prompt.

    The bounds take the better of the two rates: integer products can beat float32's.
    """

    manifest: Manifest
    machine: Machine
    peak: float
    prefill: Sequence[OperatorTime]
    cases: Sequence[Case]


def run(bundle: Path, options: Options, progress: Progress) -> Result:
    """Measure a bundle.

    Raises BundleError for an unreadable bundle, ProfileError if the model's context is shorter than all `contexts`.
    """
    manifest = chat_manifest(read_manifest(bundle))
    spare = options.num_steps + _SLACK
    contexts = [context for context in options.contexts if context + spare <= manifest.context_length]
    if not contexts:
        raise ProfileError(f"the model's context ends at {manifest.context_length}; ask for shorter --contexts")
    for context in set(options.contexts) - set(contexts):
        progress.console.print(f"context {context} is left out: the model's ends at {manifest.context_length}")
    cases = [(rows, context) for context in contexts for rows in options.rows]
    task = progress.add_task("the machine", total=2 * len(cases) + 1)
    machine = measure_machine()
    progress.advance(task)
    opener = _Opener(bundle, manifest, options, max(*contexts, min(_PROMPT, manifest.context_length - spare)) + spare)
    prompt = opener.prompt()

    plain = opener.open()
    times = []
    for rows, context in cases:
        progress.update(task, description=f"{rows} rows, context {context}")
        times.append(plain.measure(prompt[:context], rows, options.num_steps))
        progress.advance(task)
    del plain

    with tempfile.TemporaryDirectory() as folder:
        profiled = opener.open(Path(folder) / "profile")
        begin = profiled.counter.count
        first = prompt[:_PROMPT]
        profiled.runner.run([Segment(0, 0, first, (len(first) - 1,))])
        runs = [(begin, begin + 1)]
        for rows, context in cases:
            progress.update(task, description=f"operators: {rows} rows, context {context}")
            runs.append(profiled.measure(prompt[:context], rows, _PROFILED_STEPS).runs)
            progress.advance(task)
        profile = Profile(Path(profiled.session.end_profiling()))
    prefill, *operators = [profile.operators(each) for each in runs]
    peak = max((kind.multiply_adds / kind.seconds for kind in prefill if kind.multiply_adds), default=0.0)
    best = replace(machine, multiply_adds=max(machine.multiply_adds, peak))
    pairs = zip(times, operators, strict=True)
    token_bytes = state_size(profiled.session, manifest).per_token
    return Result(manifest, machine, peak, prefill, [_case(best, manifest, token_bytes, *pair) for pair in pairs])


def _case(
    machine: Machine, manifest: Manifest, token_bytes: int, times: StepTimes, operators: Sequence[OperatorTime]
) -> Case:
    multiply_adds = sum(operator.multiply_adds for operator in operators)
    kv_bytes = times.rows * times.context * token_bytes
    return Case(times, operators, bound(machine, manifest, kv_bytes=kv_bytes, multiply_adds=multiply_adds))


class _Opener:
    """A factory of sessions for a bundle, plain or profiled, with the same rows."""

    def __init__(self, bundle: Path, manifest: Manifest, options: Options, capacity: int) -> None:
        self._bundle = bundle
        self._manifest = manifest
        self._options = options
        self._capacity = capacity
        self._tokenizer = Tokenizer.load(bundle)

    def prompt(self) -> tuple[int, ...]:
        """Return the ids of a prompt of the rows' capacity."""
        ids = self._tokenizer.encode(_TEXT, special=False)
        return tuple((ids * (self._capacity // len(ids) + 1))[: self._capacity])

    def open(self, profile: Path | None = None) -> Bench:
        """Open a new session and its runner."""
        session = open_session(self._bundle, self._manifest, threads=self._options.threads, profile=profile)
        counter = RunCounter(session)
        runner = new_runner(session, self._manifest, Rows(max(self._options.rows), self._capacity))
        return Bench(runner, session, counter, partial(Detokenizer, self._tokenizer))
