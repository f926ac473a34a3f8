"""Keys and values stored in 16 bits against 32: a decode step behind contexts, and a prompt, in turns.

python benchmarks/kv_storage.py BUNDLE [--rounds 5] [--contexts 64,1024,4000] [--rows 1,8]
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np

from infrs.bench.report import shown_ratio
from infrs.bench.stats import ratio
from infrs.engine.runner import Runner, new_runner
from infrs.engine.session import create_session
from infrs.manifest import chat_manifest, read_manifest

_PROMPT, _CHUNK, _STEPS = 1200, 128, 16


def fill(runner: Runner, row: int, num_tokens: int) -> None:
    """A row of arbitrary tokens, in the server's chunks."""
    tokens = np.random.default_rng(row).integers(100, 1000, num_tokens)
    for start in range(0, num_tokens, _CHUNK):
        runner.prefill(row, tokens[start : start + _CHUNK], start, 0)


def step(runner: Runner, rows: int, context: int) -> float:
    """Seconds of a decode step."""
    begin = time.perf_counter()
    for position in range(context, context + _STEPS):
        runner.decode(0, [7] * rows, [position] * rows, range(rows))
    return (time.perf_counter() - begin) / _STEPS


def prompt(runner: Runner) -> float:
    """Seconds of a prompt."""
    begin = time.perf_counter()
    fill(runner, 0, _PROMPT)
    return time.perf_counter() - begin


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@click.option("--rounds", default=5, show_default=True)
@click.option("--contexts", default="64,1024,4000", show_default=True)
@click.option("--rows", default="1,8", show_default=True)
def main(bundle: Path, rounds: int, contexts: str, rows: str) -> None:
    """Print milliseconds in 32 bits and in 16, and how many times faster 16 are."""
    manifest = chat_manifest(read_manifest(bundle))
    lengths, counts = ([int(part) for part in text.split(",")] for text in (contexts, rows))
    runners = []
    for halves in (False, True):
        session = create_session(bundle / manifest.graph_file, 0, halves=halves)
        runners.append(new_runner(session, manifest, num_rows=max(counts), capacity=max(lengths) + _STEPS))

    def compare(what: str, measure: Callable[[Runner], float]) -> None:
        times = [[measure(runner) for runner in runners] for _ in range(rounds + 1)][1:]
        wide, narrow = ([pair[place] for pair in times] for place in (0, 1))
        better = shown_ratio(ratio(narrow, wide, more_is_better=False))
        click.echo(
            f"{what}: {1e3 * statistics.median(wide):.2f} and {1e3 * statistics.median(narrow):.2f} ms, {better}"
        )

    compare(f"a prompt of {_PROMPT} tokens", prompt)
    for context in lengths:
        for runner in runners:
            for row in range(max(counts)):
                fill(runner, row, context)
        for count in counts:
            compare(f"a step of {count} behind {context}", lambda runner: step(runner, count, context))  # noqa: B023 (called at once)


if __name__ == "__main__":
    main()
