"""A decode step by one session of two threads, against two sessions of one thread on half of the rows each.

    python benchmarks/two_callers.py BUNDLE [--rounds 7] [--rows 2,8,16]

The weights are read twice by two callers, and no operator waits for the other's half.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from infrs.bench.report import shown_ratio
from infrs.bench.stats import ratio
from infrs.engine.runner import Runner, open_runner
from infrs.manifest import chat_manifest, read_manifest

_CONTEXT, _STEPS = 256, 24


def steps(runner: Runner, rows: int) -> None:
    """Some decode steps behind a context; what it holds does not matter."""
    for position in range(_CONTEXT, _CONTEXT + _STEPS):
        runner.decode(0, [7] * rows, [position] * rows, range(rows))


def timed(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return (time.perf_counter() - begin) / _STEPS


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@click.option("--rounds", default=7, show_default=True)
@click.option("--rows", default="2,8,16", show_default=True)
def main(bundle: Path, rounds: int, rows: str) -> None:
    """Print milliseconds a step of both, and how many times faster two callers are."""
    manifest = chat_manifest(read_manifest(bundle))
    counts = [int(part) for part in rows.split(",")]

    def opened(threads: int, num_rows: int) -> Runner:
        return open_runner(bundle, manifest, num_rows=num_rows, capacity=_CONTEXT + _STEPS, threads=threads)

    together, halves = opened(2, max(counts)), [opened(1, max(counts) // 2) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        for count in counts:
            one = [0.0] * (rounds + 1)
            two = list(one)
            for number in range(rounds + 1):  # the first is not counted
                one[number] = timed(lambda: steps(together, count))  # noqa: B023 (called at once)
                two[number] = timed(lambda: list(pool.map(lambda half: steps(half, count // 2), halves)))  # noqa: B023
            better = shown_ratio(ratio(two[1:], one[1:], more_is_better=False))
            middle = [1e3 * statistics.median(times[1:]) for times in (one, two)]
            click.echo(f"{count} rows: {middle[0]:.2f} ms by one caller, {middle[1]:.2f} by two, {better}")


if __name__ == "__main__":
    main()
