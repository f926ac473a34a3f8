"""infrs against its peers on the same weights, on this machine, in interleaved rounds; writes docs/benchmarks.md.

    python benchmarks/peers.py [--rounds 5] [--pairs int4:Q4_0,int8:Q8_0] [--only 'stream|prompt']

All servers run at once, idle but for the one that is measured, and take turns round by round. They get the same
prompts, which none of them has seen before. Measure on a quiet machine: the page says how busy it was.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import statistics
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import peer_servers
from peer_servers import Server
from peer_workloads import WORKLOADS, Workload
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from infrs.bench.report import machine, number, shown_ratio
from infrs.bench.run import turns
from infrs.bench.stats import ratio

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
NOTES = "<!-- below this line the page is written by hand, and kept -->"
_WORKLOAD_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Pair:
    """infrs in a dtype beside llama.cpp in the type it is compared with."""

    ours: Server
    theirs: Server


Values = dict[str, list[float]]  # by server name, round by round; NaN where the workload failed


def measure(servers: list[Server], workload: Workload, rounds: int, progress: Progress) -> Values:
    values: Values = defaultdict(list)
    task = progress.add_task(workload.title, total=(rounds + 1) * len(servers))
    for round_number, place in turns(rounds + 1, len(servers)):
        target = servers[place].target
        progress.update(task, description=f"{workload.title}: {target.name}")
        try:
            seed = f"{workload.title} {round_number}"
            value = asyncio.run(asyncio.wait_for(workload.run(target, seed), _WORKLOAD_SECONDS))
        except (RuntimeError, TimeoutError) as error:
            progress.console.print(f"{target.name}: {workload.title}: {error or 'took too long'}")
            value = math.nan
        if round_number:  # the first one warms up
            values[target.name].append(value)
        progress.advance(task)
    return values


def row(workload: Workload, values: Values, pairs: list[Pair]) -> str:
    cells = [workload.title, workload.unit]
    for pair in pairs:
        ours, theirs = (values[server.target.name] for server in (pair.ours, pair.theirs))
        found = ratio(ours, theirs, more_is_better=workload.more_is_better)
        cells += [number(statistics.median(ours)), number(statistics.median(theirs)), shown_ratio(found)]
    return "| " + " | ".join([*cells, f"≥ {workload.goal:g}x"]) + " |"


def page(pairs: list[Pair], measured: dict[str, Values], rounds: int) -> str:
    facts = machine()
    names = [(pair.ours.target.name, pair.theirs.target.name) for pair in pairs]
    head = [
        "workload",
        "unit",
        *(cell for ours, theirs in names for cell in (ours, theirs, "infrs is better by")),
        "goal",
    ]
    table = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    table += [row(workload, measured[workload.title], pairs) for workload in WORKLOADS if workload.title in measured]
    rest = ["| server | ready after | memory at rest | weights |", "| --- | --- | --- | --- |"]
    for server in (server for pair in pairs for server in (pair.ours, pair.theirs)):
        sizes = (server.resident_bytes / 1e6, server.weight_bytes / 1e6)
        rest.append(f"| {server.target.name} | {server.ready_seconds:.1f} s | {sizes[0]:.0f} MB | {sizes[1]:.0f} MB |")
    return "\n".join(
        [
            "# Benchmarks",
            "",
            "Written by `python benchmarks/peers.py`: the demo model (SmolLM2-135M-Instruct), server against server",
            "through HTTP, the same prompts, interleaved rounds. infrs with its default settings; llama.cpp's server",
            "with eight slots.",
            "",
            f"- {facts['date']}, {facts['processor']}, {facts['cores']} cores ({', '.join(facts['instructions'])}), "
            f"{facts['memory_gib']} GiB, {facts['system']}",
            f"- infrs {version('infrs')}, onnxruntime {version('onnxruntime')}, xllamacpp {version('xllamacpp')}",
            f"- rounds: {rounds}, after one to warm up; load average {facts['load_average']} at the end"
            + (": **the machine was busy with other work, do not trust these figures**" if busy(facts) else ""),
            "",
            "Figures are medians; a ratio is that of the medians, with the smallest and largest ratio of a round.",
            "",
            *table,
            "",
            *rest,
            "",
            NOTES,
        ]
    )


def busy(facts: dict[str, Any]) -> bool:
    """Whether more ran at the end than the server and its client."""
    return float(facts["load_average"]) > facts["cores"] + 0.5


def write(path: Path, text: str) -> None:
    """Replace the measured part of the page and keep the notes."""
    notes = path.read_text(encoding="utf-8").partition(NOTES)[2] if path.exists() else ""
    path.write_text(text + (notes or "\n"), encoding="utf-8")


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--pairs", default="int4:Q4_0,int8:Q8_0", show_default=True, help="dtype:type, separated by commas.")
@click.option("--only", default="", help="Regular expression: workloads whose title it matches.")
@click.option("--cache", default=ROOT / "models_cache", type=click.Path(path_type=Path), help="Where bundles lie.")
@click.option("--output", default=PAGE, type=click.Path(path_type=Path), help="The page to write.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write every value here too.")
def main(pairs: str, rounds: int, only: str, **paths: Path | None) -> None:
    """Measure infrs against llama.cpp's server."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with ExitStack() as stack:
        started = []
        for pair in pairs.split(","):
            dtype, _, kind = pair.partition(":")
            bundle, gguf = peer_servers.bundle(paths["cache"] or ROOT, dtype), peer_servers.gguf(kind)
            ours = stack.enter_context(peer_servers.infrs(f"infrs {dtype}", bundle))
            theirs = stack.enter_context(peer_servers.llamacpp(f"llama.cpp {kind}", gguf))
            started.append(Pair(ours, theirs))
        servers = [server for pair in started for server in (pair.ours, pair.theirs)]
        measured: dict[str, Values] = {}
        console = Console(stderr=True)
        with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress:
            for workload in WORKLOADS:
                if re.search(only, workload.title):
                    measured[workload.title] = measure(servers, workload, rounds, progress)
        text = page(started, measured, rounds)
    write(paths["output"] or PAGE, text)
    if json_path := paths["json_path"]:
        json_path.write_text(json.dumps({"machine": machine(), "values": measured}, indent=1), encoding="utf-8")
    click.echo(text)


if __name__ == "__main__":
    main()
