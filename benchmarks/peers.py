"""infrs against its peers on the same weights, on this machine, in interleaved rounds; writes docs/benchmarks.md.

    python benchmarks/peers.py [--rounds 5] [--pairs int4:Q4_0,int8:Q8_0] [--only 'stream|prompt'] [--no-openvino]

All servers run at once, idle but for the one that is measured, and take turns round by round. They get the same
prompts, which none of them has seen before. Measure on a quiet machine: the page says how busy it was.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import signal
import statistics
import sys
from collections import defaultdict
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import peer_servers
from peer_servers import Server
from peer_workloads import GAPS, WORKLOADS, Workload, stream_beside_a_prompt
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from infrs.bench import plots
from infrs.bench.report import machine, number, shown_ratio
from infrs.bench.run import turns
from infrs.bench.stats import ratio

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
NOTES = "<!-- below this line the page is written by hand, and kept -->"
_WORKLOAD_SECONDS = 600


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


def row(workload: Workload, values: Values, names: list[str], pairs: list[tuple[str, str]]) -> str:
    """Medians of each server, then the ratio of each pair; empty where a server was not measured."""
    cells = [workload.title, workload.unit]
    cells += [number(statistics.median(values[name])) if name in values else "" for name in names]
    for ours, theirs in pairs:
        measured = ours in values and theirs in values
        found = ratio(values[ours], values[theirs], more_is_better=workload.more_is_better) if measured else None
        cells.append(shown_ratio(found) if measured else "")
    return "| " + " | ".join([*cells, f"≥ {workload.goal:g}x"]) + " |"


def page(servers: list[Server], pairs: list[tuple[str, str]], measured: dict[str, Values], rounds: int) -> str:
    facts = machine()
    names = [server.target.name for server in servers]
    ratios = [f"{ours} is better than {theirs} by" for ours, theirs in pairs]
    head = ["workload", "unit", *names, *ratios, "goal against llama.cpp"]
    table = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    table += [
        row(workload, measured[workload.title], names, pairs) for workload in WORKLOADS if workload.title in measured
    ]
    rest = ["| server | ready after | memory at rest | weights |", "| --- | --- | --- | --- |"]
    for server in servers:
        sizes = (server.resident_bytes / 1e6, server.weight_bytes / 1e6)
        rest.append(f"| {server.target.name} | {server.ready_seconds:.1f} s | {sizes[0]:.0f} MB | {sizes[1]:.0f} MB |")
    gaps = ["![Gaps of the running stream](gaps.png)", ""] if GAPS in measured else []
    return "\n".join(
        [
            "# Benchmarks",
            "",
            "Written by `python benchmarks/peers.py`: the demo model (SmolLM2-135M-Instruct), server against server",
            "through HTTP, the same prompts, interleaved rounds. infrs with its default settings; llama.cpp's server",
            "with eight slots; OpenVINO GenAI, where it is shown, as a library that takes one request at a time.",
            "",
            f"- {facts['date']}, {facts['processor']}, {facts['cores']} cores ({', '.join(facts['instructions'])}), "
            f"{facts['memory_gib']} GiB, {facts['system']}",
            f"- infrs {version('infrs')}, onnxruntime {version('onnxruntime')}, xllamacpp {version('xllamacpp')}, "
            f"openvino-genai {peer_servers.OPENVINO}",
            f"- rounds: {rounds}, after one to warm up; load average {facts['load_average']} at the end"
            + (": **the machine was busy with other work, do not trust these figures**" if busy(facts) else ""),
            "",
            "Figures are medians; a ratio is that of the medians, with the smallest and largest ratio of a round.",
            "How faithful each dtype is stands in [dtypes](dtypes.md).",
            "",
            *table,
            "",
            *rest,
            "",
            *gaps,
            NOTES,
        ]
    )


def busy(facts: dict[str, Any]) -> bool:
    """Whether more ran at the end than the server and its client."""
    return float(facts["load_average"]) > facts["cores"] + 0.5


def write(path: Path, text: str) -> None:
    """Replace the measured part of the page and keep the notes."""
    notes = path.read_text(encoding="utf-8").partition(NOTES)[2] if path.exists() else ""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + (notes or "\n"), encoding="utf-8")


def draw_gaps(path: Path, servers: list[Server]) -> None:
    """Plot the running streams beside a fresh long prompt, once a server."""
    streams = {}
    for server in servers:
        running, _ = asyncio.run(stream_beside_a_prompt(server.target, "plot"))
        streams[server.target.name] = running
    plots.draw_gaps(path, streams, "A stream while a fresh 1,200-token prompt arrives after 0.5 s")


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--pairs", default="int4:Q4_0,int8:Q8_0", show_default=True, help="dtype:type, separated by commas.")
@click.option("--openvino/--no-openvino", default=True, help="Beside the last pair, OpenVINO GenAI on the same file.")
@click.option("--only", default="", help="Regular expression: workloads whose title it matches.")
@click.option("--cache", default=ROOT / "models_cache", type=click.Path(path_type=Path), help="Where bundles lie.")
@click.option("--output", default=PAGE, type=click.Path(path_type=Path), help="The page; its plot goes beside it.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write every value here too.")
def main(pairs: str, rounds: int, only: str, openvino: bool, **paths: Path) -> None:
    """Measure infrs against llama.cpp's server and OpenVINO's library."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped then too
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    workloads = [workload for workload in WORKLOADS if re.search(only, workload.title)]
    with ExitStack() as stack:
        servers: list[Server] = []
        compared: list[tuple[str, str]] = []
        for pair in pairs.split(","):
            dtype, _, kind = pair.partition(":")
            bundle, gguf = peer_servers.bundle(paths["cache"], dtype), peer_servers.gguf(kind)
            servers.append(stack.enter_context(peer_servers.infrs(f"infrs {dtype}", bundle)))
            servers.append(stack.enter_context(peer_servers.llamacpp(f"llama.cpp {kind}", gguf)))
            compared.append((f"infrs {dtype}", f"llama.cpp {kind}"))
        batching = list(servers)
        if openvino:
            servers.append(stack.enter_context(peer_servers.openvino(f"OpenVINO {kind}", gguf)))
            compared.append((f"infrs {dtype}", f"OpenVINO {kind}"))
        measured: dict[str, Values] = {}
        with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as progress:
            for workload in workloads:
                taking_part = servers if workload.one_at_a_time else batching
                values = measured[workload.title] = measure(taking_part, workload, rounds, progress)
                medians = [f"{name} {number(statistics.median(found))}" for name, found in values.items()]
                progress.console.print(f"{workload.title} ({workload.unit}): {', '.join(medians)}")
        text = page(servers, compared, measured, rounds)
        write(paths["output"], text)
        if GAPS in measured:
            draw_gaps(paths["output"].parent / "gaps.png", batching)
    if paths["json_path"]:
        content = {"machine": machine(), "values": measured}
        paths["json_path"].write_text(json.dumps(content, indent=1), encoding="utf-8")
    click.echo(text)


if __name__ == "__main__":
    main()
