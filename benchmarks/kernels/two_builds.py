"""Compare two builds of the kernels in one process, in turns: decode steps at several contexts, and a prompt.

python -m benchmarks.kernels.two_builds BUNDLE BEFORE.so [AFTER.so] [--rounds 5]

AFTER defaults to the installed build. A faster kernel must give the same bits; the script checks that.
Keep the library before a change: `cp "$(python -c 'from infrs import native; print(native.library())')" before.so`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import numpy as np

from benchmarks.lib import turns
from benchmarks.lib.runner_steps import STEPS, decode, fill
from infrs import native
from infrs.bundle.manifest import Manifest, chat_manifest, read_manifest
from infrs.engine.runners.opening import new_runner, open_session
from infrs.engine.runners.runner import Rows, Runner, Segment

PROMPT = 1200  # tokens
_CONTEXTS = (64, 2060, 4000)
_ROWS = (1, 8)


def runner_of(library: Path | None, bundle: Path, manifest: Manifest) -> Runner:
    """A runner over the kernels of a library."""
    if library is None or not library.exists():
        raise click.UsageError(f"{library or 'the installed package'} holds no kernels")
    native.library = lambda: library
    session = open_session(bundle, manifest, threads=0)
    return new_runner(session, manifest, Rows(max(_ROWS), max(_CONTEXTS) + STEPS))


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@click.argument("before", type=click.Path(path_type=Path, exists=True))
@click.argument("after", type=click.Path(path_type=Path, exists=True), required=False)
@click.option("--rounds", default=5, show_default=True)
def main(bundle: Path, before: Path, after: Path | None, rounds: int) -> None:
    """Print milliseconds before and after, and how many times faster it is after."""
    manifest = chat_manifest(read_manifest(bundle))
    builds = {"before": before, "after": after or native.library()}
    runners = {name: runner_of(library, bundle, manifest) for name, library in builds.items()}

    def compare(what: str, run: Callable[[Runner], object], parts: int = 1) -> None:
        ways = {name: partial(run, runner) for name, runner in runners.items()}
        click.echo(turns.compare(what, ways, rounds, parts))

    compare(f"a prompt of {PROMPT} tokens", partial(fill, row=0, num_tokens=PROMPT))
    most = max(_ROWS)
    for context in _CONTEXTS:
        scores = []
        for runner in runners.values():
            for row in range(most):
                fill(runner, row, context)
            scores.append(runner.run([Segment(row, context, (7,), (0,)) for row in range(most)]).copy())
        old, new = scores
        if not np.array_equal(old, new):
            click.echo(f"behind {context} tokens the two builds differ: by {np.abs(old - new).max():g}")
        for count in _ROWS:
            compare(f"a step of {count} behind {context}", partial(decode, rows=count, context=context), STEPS)


if __name__ == "__main__":
    main()
