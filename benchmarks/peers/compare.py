"""Compare infrs with its peers on the same weights, on this machine, in interleaved rounds; write docs/benchmarks.md.

    python -m benchmarks.peers.compare    # the whole page; about an hour on two cores
    python -m benchmarks.peers.compare --tables speed --peers '' --no-native --only 'stream|prompt' --rounds 5

The first run installs the peers and makes their models (1.5 GB). All servers run together; only the one that is
measured has work. They take turns workload by workload in each round and get the same prompts, new to all of them. The
script saves each round when it ends (benchmarks/results) and rewrites the page, so an interrupted run loses one round.
It measures the quality first where weights or kernels have changed (benchmarks/quality/divergence.py). Measure on a
quiet machine: the page says how busy it was.
"""

from __future__ import annotations

import asyncio
import math
import re
import signal
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.lib import other_load, results
from benchmarks.lib.models import MODELS_CACHE, PAIRS, bundle, gguf, parse_pairs
from benchmarks.peers import llamacpp_native, page
from benchmarks.peers import servers as peer_servers
from benchmarks.peers.servers import Server
from benchmarks.peers.workloads import GAPS, SCALING, WORKLOADS, Workload, stream_during_a_prompt
from benchmarks.quality import divergence
from infrs import native
from infrs.bench import plots
from infrs.bench.report import machine, number
from infrs.bundle.manifest import Dtype

_WORKLOAD_SECONDS = 600
_TABLES = ("speed", "scaling")
_WARM_UP = 2  # workloads that run once, uncounted, before the first round
_VERSIONS = ("infrs", "onnxruntime", "xllamacpp")


class Run:
    """One run of rounds, kept on disk as it grows. servers: those of all groups, in the order of the page."""

    def __init__(self, kind: results.Kind, pairs: list[tuple[str, str]], versions: dict[str, str]) -> None:
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
        earlier: float = self.content.get("others", 0.0)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task("warming up", total=len(workloads) * rounds)
            for workload in workloads[:_WARM_UP]:
                take_turns(servers, workload, 0, progress)
            begin = other_load.now()
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
                others = max(other_load.now().others_since(begin), earlier)
                self.content |= {"machine": machine(), "rounds": number_, "others": round(others, 2)}
                results.save(self.kind, self.content)
                page.write()


def take_turns(servers: list[Server], workload: Workload, round_number: int, progress: Progress) -> dict[str, float]:
    """Return one figure of each server that can run the workload. Another server begins in each round."""
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
    """Plot each server's running stream while a fresh long prompt arrives."""
    streams = {}
    for server in servers:
        try:
            running, _ = asyncio.run(stream_during_a_prompt(server.target, "plot"))
        except RuntimeError as error:
            print(f"{server.target.name} is not in {path.name}: {error}", file=sys.stderr)
            continue
        streams[server.target.name] = running
    plots.draw_gaps(path, streams, "A stream while a fresh 1,200-token prompt arrives after 0.5 s")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Options of a comparison. pairs: infrs dtypes and llama.cpp types. only: a pattern of workload titles."""

    pairs: Sequence[tuple[Dtype, str]]
    rounds: int
    only: str
    native_too: bool
    models_cache: Path

    def speed(self, others: Sequence[str]) -> None:
        """The workloads of the first table, against llama.cpp and other peers."""
        with ExitStack() as stack:
            servers = self._start(stack)
            compared, versions = self._compared()
            for name in others:
                peer = peer_servers.PEERS[name]
                dtype, kind = next((pair for pair in self.pairs if pair[0] == peer.dtype), self.pairs[-1])
                servers.append(stack.enter_context(peer.start(kind, self.models_cache)))
                compared.append((f"infrs {dtype}", servers[-1].target.name))
                versions |= peer.versions
            run = Run("speed", compared, versions)
            run.measure(servers, self._matching(WORKLOADS), self.rounds)
            if run.content["values"].get(GAPS):
                batching = [server for server in servers if not server.one_at_a_time]
                draw_gaps(page.PAGE.parent / "images" / "gaps.png", batching)

    def scaling(self) -> None:
        """The workloads of the second table, each group with as many slots and as much context as it needs."""
        run = Run("scaling", *self._compared())
        workloads = self._matching(SCALING)
        contexts = [workload for workload in workloads if workload.one_at_a_time]
        rows = [workload for workload in workloads if not workload.one_at_a_time]
        for group, slots, context in ((contexts, 1, 4352), (rows, 32, 16384)):
            with ExitStack() as stack:
                if group:
                    run.measure(self._start(stack, slots=slots, context=context), group, self.rounds)

    def _start(self, stack: ExitStack, *, slots: int = 8, context: int = 16384) -> list[Server]:
        """Start both sides of each pair. slots: parallel sequences. context: of all slots together."""
        ours = () if slots == 8 else ("--max-num-seqs", str(slots), "--max-model-len", str(context // slots))
        servers = []
        for dtype, kind in self.pairs:
            folder, file = bundle(self.models_cache, dtype), gguf(kind)
            servers.append(stack.enter_context(peer_servers.infrs(f"infrs {dtype}", folder, *ours)))
            theirs = ("--slots", str(slots), "--context", str(context))
            servers.append(stack.enter_context(peer_servers.llamacpp(f"llama.cpp {kind}", file, *theirs)))
            if self.native_too:
                native_server = peer_servers.llamacpp_native(f"llama.cpp {kind} native", file, slots, context)
                servers.append(stack.enter_context(native_server))
        return servers

    def _compared(self) -> tuple[list[tuple[str, str]], dict[str, str]]:
        """Which servers are compared, and what they run on."""
        compared = [(f"infrs {dtype}", f"llama.cpp {kind}") for dtype, kind in self.pairs]
        versions = {name: version(name) for name in _VERSIONS}
        if self.native_too:
            compared = [(ours, each) for ours, theirs in compared for each in (theirs, f"{theirs} native")]
            versions |= {"llama-cpp-python's source": llamacpp_native.VERSION}
        return compared, versions

    def _matching(self, workloads: Sequence[Workload]) -> list[Workload]:
        return [workload for workload in workloads if re.search(self.only, workload.title)]


def _among(known: Collection[str]) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Reads names that are separated by commas."""

    def read(_: click.Context, __: click.Parameter, value: str) -> list[str]:
        names = [name for name in value.split(",") if name]
        if unknown := [name for name in names if name not in known]:
            raise click.BadParameter(f"{', '.join(unknown)}: known are {', '.join(known)}")
        return names

    return read


@click.command()
@click.option("--rounds", default=3, show_default=True)
@click.option("--pairs", default=PAIRS, show_default=True, help="dtype:type, separated by commas.")
@click.option("--peers", default=",".join(peer_servers.PEERS), callback=_among(peer_servers.PEERS), help="Others.")
@click.option("--native/--no-native", "native_too", default=True, help="llama.cpp compiled for this processor too.")
@click.option("--tables", default=",".join(_TABLES), callback=_among(_TABLES), help="Which tables of the page.")
@click.option("--only", default="", help="Regular expression: run the workloads with a matching title.")
@click.option("--cache", default=MODELS_CACHE, type=click.Path(path_type=Path), help="Where bundles lie.")
def main(
    pairs: str, peers: list[str], tables: list[str], cache: Path, *, rounds: int, only: str, native_too: bool
) -> None:
    """Measure infrs against llama.cpp's server and other peers, and write the whole page."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped then too
    divergence.measure(pairs, cache)
    comparison = Comparison(parse_pairs(pairs), rounds, only, native_too, cache)
    if "speed" in tables:
        comparison.speed(peers)
    if "scaling" in tables:
        comparison.scaling()
    click.echo(page.write())


if __name__ == "__main__":
    main()
