"""infrs against its peers on the same weights, on this machine, in interleaved rounds; writes docs/benchmarks.md.

    python benchmarks/peers.py [--rounds 3] [--pairs int4:Q4_0,int8:Q8_0] [--only 'stream|prompt'] [--libraries '']
    python benchmarks/peers.py --native      # beside llama.cpp of the wheel, one that is compiled for this processor
    python benchmarks/peers.py --scaling     # longer contexts and more rows, into a table of their own

All servers run at once, idle but for the one that is measured, and take turns workload by workload in each round. They
get the same prompts, which none of them has seen before. Every round is kept as soon as it ends (benchmarks/results)
and the page written, so a run that is broken off loses one round. The quality that stands beside the speed is measured
first where weights or kernels have changed (quality.py). Measure on a quiet machine: the page says how busy it was.
"""

from __future__ import annotations

import asyncio
import math
import re
import signal
import sys
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import llamacpp_native
import page
import peer_servers
import quality
from peer_servers import Server
from peer_workloads import GAPS, SCALING, WORKLOADS, Workload, stream_beside_a_prompt
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from infrs import native
from infrs.bench import plots
from infrs.bench.report import machine, number

_WORKLOAD_SECONDS = 600
_WARM_UP = 2  # workloads that run once, uncounted, before the first round
_VERSIONS = ("infrs", "onnxruntime", "xllamacpp")


class Run:
    """One run of rounds, kept on disk as it grows. servers: those of all groups, in the order of the page."""

    def __init__(self, kind: page.Kind, pairs: list[tuple[str, str]], versions: dict[str, str]) -> None:
        self.kind = kind
        self.content: dict[str, Any] = {
            "pairs": pairs,
            "versions": versions,
            "kernels": kernels(),
            "rounds": 0,
            "servers": {},
            "values": {},
        }

    def measure(self, servers: list[Server], workloads: list[Workload], rounds: int) -> None:
        """Warm up, then measure round by round."""
        for server in servers:
            self.content["servers"][server.target.name] = {
                "ready_seconds": server.ready_seconds,
                "resident_bytes": server.resident_bytes,
                "weight_bytes": server.weight_bytes,
            }
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task("warming up", total=len(workloads) * rounds)
            for workload in workloads[:_WARM_UP]:
                take_turns(servers, workload, 0, progress)
            for number_ in range(1, rounds + 1):
                for workload in workloads:
                    progress.update(task, description=f"round {number_} of {rounds}: {workload.title}")
                    values = take_turns(servers, workload, number_, progress)
                    shown = ", ".join(f"{name} {number(value)}" for name, value in values.items())
                    progress.console.print(f"{number_}/{rounds} {workload.title} ({workload.unit}): {shown}")
                    kept = self.content["values"].setdefault(workload.title, {})
                    for name, value in values.items():
                        kept.setdefault(name, []).append(value)
                    progress.advance(task)
                self.content |= {"machine": machine(), "rounds": number_}
                page.save(self.kind, self.content)
                page.write()


def take_turns(servers: list[Server], workload: Workload, round_number: int, progress: Progress) -> dict[str, float]:
    """One figure of each server that can take part; who begins changes from round to round."""
    values = {}
    for place in range(len(servers)):
        server = servers[(place + round_number) % len(servers)]
        if server.one_at_a_time and not workload.one_at_a_time:
            continue
        target = server.target
        try:
            seed = f"{workload.title} {round_number}"
            values[target.name] = asyncio.run(asyncio.wait_for(workload.run(target, seed), _WORKLOAD_SECONDS))
        except (RuntimeError, TimeoutError) as error:
            progress.console.print(f"{target.name}: {workload.title}: {error or 'took too long'}")
            values[target.name] = math.nan
    return values


def kernels() -> str:
    """Which kernels an infrs server of this environment runs, in words."""
    library = native.library()
    return f"its own kernels (build {native.build_id(library)})" if library else "ONNX Runtime's kernels"


def draw_gaps(path: Path, servers: list[Server]) -> None:
    """Plot the running streams beside a fresh long prompt, once a server."""
    streams = {}
    for server in servers:
        running, _ = asyncio.run(stream_beside_a_prompt(server.target, "plot"))
        streams[server.target.name] = running
    plots.draw_gaps(path, streams, "A stream while a fresh 1,200-token prompt arrives after 0.5 s")


def start_pairs(
    stack: ExitStack, pairs: str, models_cache: Path, *, native_too: bool, slots: int = 8, context: int = 16384
) -> list[Server]:
    """Both sides of each pair. slots: sequences at once. context: of all slots together."""
    ours = () if slots == 8 else ("--max-num-seqs", str(slots), "--max-model-len", str(context // slots))
    servers = []
    for dtype, kind in page.parse_pairs(pairs):
        bundle, gguf = peer_servers.bundle(models_cache, dtype), peer_servers.gguf(kind)
        servers.append(stack.enter_context(peer_servers.infrs(f"infrs {dtype}", bundle, *ours)))
        theirs = ("--slots", str(slots), "--context", str(context))
        servers.append(stack.enter_context(peer_servers.llamacpp(f"llama.cpp {kind}", gguf, *theirs)))
        if native_too:
            name = f"llama.cpp {kind} native"
            servers.append(stack.enter_context(peer_servers.llamacpp_native(name, gguf, slots, context)))
    return servers


@click.command()
@click.option("--rounds", default=3, show_default=True)
@click.option("--pairs", default=page.PAIRS, show_default=True, help="dtype:type, separated by commas.")
@click.option(
    "--libraries",
    default="openvino",
    show_default=True,
    help=f"Beside the last pair, on the workloads of one request; of {', '.join(peer_servers.LIBRARIES)}.",
)
@click.option("--only", default="", help="Regular expression: workloads whose title it matches.")
@click.option("--scaling", is_flag=True, help="Longer contexts and more rows instead.")
@click.option("--native", "native_too", is_flag=True, help="llama.cpp compiled for this processor too.")
@click.option("--cache", default=page.ROOT / "models_cache", type=click.Path(path_type=Path), help="Where bundles lie.")
def main(pairs: str, rounds: int, only: str, libraries: str, cache: Path, *, scaling: bool, native_too: bool) -> None:
    """Measure infrs against llama.cpp's server, and libraries."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped then too
    compared = [(f"infrs {dtype}", f"llama.cpp {kind}") for dtype, kind in page.parse_pairs(pairs)]
    versions = {name: version(name) for name in _VERSIONS}
    if native_too:
        compared = [(ours, each) for ours, theirs in compared for each in (theirs, f"{theirs} native")]
        versions |= {"llama-cpp-python's source": llamacpp_native.VERSION}
    workloads = [workload for workload in (SCALING if scaling else WORKLOADS) if re.search(only, workload.title)]
    quality.measure(pairs, cache)
    if scaling:
        run = Run("scaling", compared, versions)
        contexts = [workload for workload in workloads if workload.one_at_a_time]
        rows = [workload for workload in workloads if not workload.one_at_a_time]
        for group, slots, context in ((contexts, 1, 4352), (rows, 32, 16384)):
            with ExitStack() as stack:
                if group:
                    run.measure(
                        start_pairs(stack, pairs, cache, native_too=native_too, slots=slots, context=context),
                        group,
                        rounds,
                    )
    else:
        with ExitStack() as stack:
            servers = start_pairs(stack, pairs, cache, native_too=native_too)
            batching = list(servers)
            dtype, kind = page.parse_pairs(pairs)[-1]
            for library in filter(None, libraries.split(",")):
                servers.append(stack.enter_context(peer_servers.LIBRARIES[library](kind, cache)))
                compared.append((f"infrs {dtype}", servers[-1].target.name))
                versions |= peer_servers.versions(library)
            run = Run("speed", compared, versions)
            run.measure(servers, workloads, rounds)
            if run.content["values"].get(GAPS):
                draw_gaps(page.PAGE.parent / "gaps.png", batching)
    click.echo(page.write())


if __name__ == "__main__":
    main()
