"""Keys and values stored in 16 bits against 32: a decode step behind contexts, and a prompt, in turns.

python benchmarks/kv_storage.py BUNDLE [--rounds 5] [--contexts 64,1024,4000] [--rows 1,8]
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import numpy as np
import turns

from infrs.bundle.manifest import chat_manifest, read_manifest
from infrs.engine.runners.runner import Runner, new_runner
from infrs.engine.runners.session import create_session

STEPS = 16
PROMPT, _CHUNK = 1200, 128


def fill(runner: Runner, row: int, num_tokens: int) -> None:
    """A row of arbitrary tokens, in the server's chunks."""
    tokens = np.random.default_rng(row).integers(100, 1000, num_tokens)
    for start in range(0, num_tokens, _CHUNK):
        runner.prefill(row, tokens[start : start + _CHUNK], start, 0)


def decode(runner: Runner, rows: int, context: int) -> None:
    """STEPS steps of `rows` rows behind a context."""
    for position in range(context, context + STEPS):
        runner.decode(0, [7] * rows, [position] * rows, range(rows))


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@click.option("--rounds", default=5, show_default=True)
@click.option("--contexts", default="64,1024,4000", show_default=True)
@click.option("--rows", default="1,8", show_default=True)
def main(bundle: Path, rounds: int, contexts: str, rows: str) -> None:
    """Print milliseconds in 32 bits and in 16, and how many times faster 16 are."""
    manifest = chat_manifest(read_manifest(bundle))
    lengths, counts = ([int(part) for part in text.split(",")] for text in (contexts, rows))
    runners = {}
    for name, halves in (("32 bits", False), ("16 bits", True)):
        session = create_session(bundle / manifest.graph_file, 0, halves=halves)
        runners[name] = new_runner(session, manifest, num_rows=max(counts), capacity=max(PROMPT, *lengths) + STEPS)

    def compare(what: str, run: Callable[[Runner], None], parts: int = 1) -> None:
        ways = {name: partial(run, runner) for name, runner in runners.items()}
        click.echo(turns.compare(what, ways, rounds, parts))

    compare(f"a prompt of {PROMPT} tokens", partial(fill, row=0, num_tokens=PROMPT))
    for context in lengths:
        for runner in runners.values():
            for row in range(max(counts)):
                fill(runner, row, context)
        for count in counts:
            compare(f"a step of {count} behind {context}", partial(decode, rows=count, context=context), STEPS)


if __name__ == "__main__":
    main()
