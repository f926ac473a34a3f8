"""A prompt's keys and values read back from a file, against computing the prompt again and copying them between rows.

python benchmarks/prefix_on_disk.py BUNDLE [--tokens 1200] [--rounds 5]
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import turns
from kv_storage import fill

from infrs.bundle.manifest import chat_manifest, read_manifest
from infrs.engine.runners.fused import FusedRunner
from infrs.engine.runners.runner import open_runner


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@click.option("--tokens", default=1200, show_default=True)
@click.option("--rounds", default=5, show_default=True)
def main(bundle: Path, tokens: int, rounds: int) -> None:
    """Print milliseconds of each way."""
    runner = open_runner(bundle, chat_manifest(read_manifest(bundle)), num_rows=2, capacity=tokens, threads=0)
    assert isinstance(runner, FusedRunner)
    rows = [array[:2] for array in runner._slab.arrays]
    with tempfile.TemporaryDirectory(dir=bundle.parent) as folder:
        path = Path(folder) / "prefix.npy"

        def write() -> None:
            with path.open("wb") as file:
                np.save(file, np.stack([array[0] for array in rows]))
                os.fsync(file.fileno())

        def read(*, cold: bool) -> None:
            if cold:
                with path.open("rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            for array, kept in zip(rows, np.load(path), strict=True):
                array[1] = kept

        ways: dict[str, Callable[[], object]] = {
            "computed": lambda: fill(runner, 0, tokens),
            "copied from another row": lambda: runner.copy_row(0, 1, tokens),
            "written and synced": write,
            "read, in the system's cache": lambda: read(cold=False),
            "read, not in the system's cache": lambda: read(cold=True),
        }
        times = turns.timed(ways, rounds)
        click.echo(f"{tokens} tokens, {path.stat().st_size / 1e6:.0f} MB")
    for line in turns.in_milliseconds(times):
        click.echo(line)


if __name__ == "__main__":
    main()
