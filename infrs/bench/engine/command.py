"""`infrs-bench engine`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


def _numbers(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(part) for part in value.split(","))
    except ValueError as error:
        raise click.BadParameter("give whole numbers separated by commas") from error
    if min(numbers) < 1:
        raise click.BadParameter("give numbers above 0")
    return numbers


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--rows", default="1,4,8,16", show_default=True, callback=_numbers, help="Number of rows that decode together."
)
@click.option(
    "--contexts",
    default="64,512,2048",
    show_default=True,
    callback=_numbers,
    help="Context length of each row, in tokens.",
)
@click.option("--steps", default=24, show_default=True, type=click.IntRange(2, 1000), help="Steps per measurement.")
@click.option("--threads", default=0, show_default=True, help="Compute threads. 0: one per physical core.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write all measurements to this file.")
def engine(bundle: Path, json_path: Path | None, steps: int, **options: Any) -> None:  # noqa: ANN401  # click's
    """Profile the decode step of BUNDLE (a directory) without HTTP, and compare it with the machine's limits.

    Operators are measured in a separate session, because profiling slows the others down.
    """
    from infrs.bench.engine import profile, tables  # noqa: PLC0415  # ONNX Runtime: `load` does without it

    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )
    with progress:
        result = profile.run(bundle, profile.Options(num_steps=steps, **options), progress)
    console = Console(width=None if Console().is_terminal else 160)
    for table in tables.tables(result):
        console.print(table)
    if json_path:
        json_path.write_bytes(orjson.dumps(tables.document(result), option=orjson.OPT_INDENT_2))
