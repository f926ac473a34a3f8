"""A decode step by one session of two threads, against two sessions of one thread on half of the rows each.

    python benchmarks/two_callers.py BUNDLE [--rounds 7] [--rows 2,8,16]

The weights are read twice by two callers, and no operator waits for the other's half.
"""

from __future__ import annotations

import statistics
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import click
import turns
from kv_storage import STEPS, decode

from infrs.bundle.manifest import chat_manifest, read_manifest
from infrs.engine.runners.runner import Runner, open_runner

_CONTEXT = 256


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@click.option("--rounds", default=7, show_default=True)
@click.option("--rows", default="2,8,16", show_default=True)
def main(bundle: Path, rounds: int, rows: str) -> None:
    """Print milliseconds a step of both, and how many times faster two callers are."""
    manifest = chat_manifest(read_manifest(bundle))
    counts = [int(part) for part in rows.split(",")]

    def opened(threads: int, num_rows: int) -> Runner:
        return open_runner(bundle, manifest, num_rows=num_rows, capacity=_CONTEXT + STEPS, threads=threads)

    together, halves = opened(2, max(counts)), [opened(1, max(counts) // 2) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:

        def both(rows: int) -> None:
            list(pool.map(partial(decode, rows=rows, context=_CONTEXT), halves))

        for count in counts:
            ways = {"one": partial(decode, together, count, _CONTEXT), "two": partial(both, count // 2)}
            times = turns.timed(ways, rounds)
            one, two = (1e3 * statistics.median(values) / STEPS for values in times.values())
            better = turns.how_much_faster(times["two"], times["one"])
            click.echo(f"{count} rows: {one:.2f} ms by one caller, {two:.2f} by two, {better}")


if __name__ == "__main__":
    main()
