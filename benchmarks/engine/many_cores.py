"""Compute what to expect of machines with more cores, from what is measured with one thread here.

    python -m benchmarks.engine.many_cores BUNDLE...

A decode step is modelled as the sum over its operators. An operator of infrs takes its time with one thread, divided by
the threads, but never less than its bytes take at the memory bandwidth of the machine; and each of its nodes waits once
for the threads. Everything else keeps its time. The first rows of a table compare the model with this machine. All
other rows are computed, not measured: no machine with as many cores was at hand.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from benchmarks.peers.page import markdown
from infrs.bench.engine.profile import Case, Options, Result, run

PARALLEL = frozenset({"MatMulNBits", "MatMulLevels", "Linear", "Experts", "GroupQueryAttention"})
JOIN = 2e-6  # seconds for which a region waits for two threads; each doubling adds as much
BUSY = 0.9  # of the time of each thread, by tests/native/test_split_work.py
CONTEXT, STEPS = 64, 30
ROWS = (1, 8)
_CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine to compute for. bandwidth: bytes a second that a program can read."""

    name: str
    cores: int
    bandwidth: float


MACHINES = (
    Machine("desktop, two channels of DDR5-5600", 4, 70e9),
    Machine("desktop, two channels of DDR5-5600", 8, 70e9),
    Machine("desktop, two channels of DDR5-5600", 16, 70e9),
    Machine("server, eight channels of DDR5-4800", 16, 240e9),
    Machine("server, eight channels of DDR5-4800", 32, 240e9),
    Machine("server, eight channels of DDR5-4800", 64, 240e9),
)


def step_seconds(case: Case, num_bytes: float, machine: Machine) -> float:
    """Return the computed seconds of a decode step. case: measured with one thread. num_bytes: that the step reads."""
    total = sum(operator.seconds for operator in case.operators)
    scale = case.times.session / total  # profiled runs are slower
    parallel = [operator for operator in case.operators if operator.kind in PARALLEL]
    seconds = sum(operator.seconds for operator in parallel) * scale
    regions = sum(operator.nodes for operator in parallel)
    computing = seconds / machine.cores / (BUSY if machine.cores > 1 else 1)
    joining = regions * JOIN * math.log2(machine.cores)
    return case.times.step - seconds + max(computing, num_bytes / machine.bandwidth) + joining


@click.command()
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
def main(bundles: Sequence[Path]) -> None:
    """Measure each bundle with one thread and with all, and print a table."""
    rows = [["machine", "cores"], ["---", "--:"]]
    columns: list[list[str]] = []
    for bundle in bundles:
        with Progress(console=Console(stderr=True)) as progress:
            single, whole = (run(bundle, Options(ROWS, (CONTEXT,), STEPS, threads), progress) for threads in (1, 0))
        for case, measured in zip(single.cases, whole.cases, strict=True):
            rows[0].append(f"{single.manifest.dtype}, {case.times.rows} row{'s' if case.times.rows > 1 else ''}")
            rows[1].append("--:")
            columns.append(column(single, case, whole, measured))
    cores = str(_CORES)
    names = [("this one, measured", cores), ("this one, computed", cores)]
    names += [(f"{machine.name} ({machine.bandwidth / 1e9:.0f} GB/s)", str(machine.cores)) for machine in MACHINES]
    for number, names_and_cores in enumerate(names):
        rows.append([*names_and_cores, *(cells[number] for cells in columns)])
    click.echo(markdown(rows))


def column(single: Result, case: Case, whole: Result, measured: Case) -> list[str]:
    """Return the tokens a second of a column: measured here, computed for here, and for each machine."""
    here = Machine("here", _CORES, whole.machine.bandwidth)
    num_bytes = case.bound.reading * single.machine.bandwidth  # of weights, keys and values
    computed = [step_seconds(case, num_bytes, machine) for machine in (here, *MACHINES)]
    return [f"{case.times.rows / seconds:,.0f}" for seconds in (measured.times.step, *computed)]


if __name__ == "__main__":
    main()
