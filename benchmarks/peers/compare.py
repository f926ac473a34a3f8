"""Compare infrs with its peers on the same weights, on this machine, in interleaved rounds; write docs/benchmarks.md.

    python -m benchmarks.peers.compare    # the whole page; about two hours on two cores
    python -m benchmarks.peers.compare --tables speed --only 'stream|prompt' --rounds 5

The first run installs the peers and makes their models (8 GB). All servers of a table run together; only the one that
is measured has work. They take turns workload by workload in each round and get the same prompts, new to all of them.
A contender with several variants, such as thread counts, runs the one that was the fastest in a pilot round of the
workload. The script saves each round when it ends (benchmarks/results) and rewrites the page, so an interrupted run
loses one round. It measures the quality first where weights or kernels have changed (benchmarks/quality/divergence.py).
Measure on a quiet machine: the page says how busy it was.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.lib import models, other_load, results
from benchmarks.lib.models import MODELS_CACHE, PAIRS, parse_pairs
from benchmarks.peers import llamacpp_native, page, workloads
from benchmarks.peers import servers as peer_servers
from benchmarks.peers.servers import Server
from benchmarks.peers.workloads import Workload
from benchmarks.quality import divergence
from infrs import native
from infrs.bench import plots
from infrs.bench.report import machine, number, title
from infrs.bundle.manifest import Dtype

_WORKLOAD_SECONDS = 600
_PLAIN = "--no-speculation"
_DRAFTS = ("ngram-simple", "ngram-mod", "ngram-cache")  # llama.cpp's drafts that need no draft model


@dataclass(frozen=True, slots=True)
class Contender:
    """One column of a table. variants: servers by what is special about each. A workload is measured on the best."""

    name: str
    variants: Mapping[str, Server]

    @property
    def server(self) -> Server:
        """Return the first variant."""
        return next(iter(self.variants.values()))


class Run:
    """One run of rounds, kept on disk as it grows."""

    def __init__(self, kind: results.Kind, pairs: Sequence[tuple[str, str]], versions: Mapping[str, str]) -> None:
        self.kind = kind
        self.content: dict[str, Any] = {
            "pairs": list(pairs),
            "versions": dict(versions),
            "kernels": kernels(),
            "rounds": 0,
            "servers": {},
            "variants": {},
            "values": {},
        }

    def measure(self, contenders: Sequence[Contender], chosen: Sequence[Workload], rounds: int) -> None:
        """Run a pilot round, then measure round by round."""
        for contender in contenders:
            server = contender.server
            self.content["servers"][contender.name] = {
                "ready_seconds": server.ready_seconds,
                "resident_bytes": server.resident_bytes,
                "weight_bytes": server.weight_bytes,
                "command": server.command,
            }
        earlier: float = self.content.get("others", 0.0)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task("", total=len(chosen) * (rounds + 1))
            begin = other_load.now()
            best_ones: dict[str, dict[str, Server]] = {}
            for number_ in range(rounds + 1):
                for workload in chosen:
                    progress.update(task, description=f"round {number_} of {rounds}: {workload.title}")
                    if number_ == 0:
                        best_ones[workload.title] = self._pilot(contenders, workload, progress)
                    else:
                        self._round(best_ones[workload.title], workload, number_, progress)
                    progress.advance(task)
                if number_:
                    others = max(other_load.now().others_since(begin), earlier)
                    self.content |= {"machine": machine(), "rounds": number_, "others": round(others, 2)}
                    results.save(self.kind, self.content)
                    page.write()

    def _pilot(self, contenders: Sequence[Contender], workload: Workload, progress: Progress) -> dict[str, Server]:
        """Return the best variant of each contender that can run a workload, and keep its name."""
        found = {}
        for contender in contenders:
            able = {
                name: server
                for name, server in contender.variants.items()
                if workload.one_at_a_time or not server.one_at_a_time
            }
            figures = {name: figure_of(server, workload, 0, progress) for name, server in able.items()}
            if figures:
                name = best_of(figures, more_is_better=workload.more_is_better)
                found[contender.name] = able[name]
                if len(able) > 1:
                    self.content["variants"].setdefault(contender.name, {})[workload.title] = name
        return found

    def _round(self, servers: Mapping[str, Server], workload: Workload, number_: int, progress: Progress) -> None:
        """Measure a workload on each server. Another one begins in each round."""
        names = list(servers)
        first = number_ % len(names)
        values = {
            name: figure_of(servers[name], workload, number_, progress) for name in (*names[first:], *names[:first])
        }
        shown = ", ".join(f"{name} {number(value)}" for name, value in values.items())
        progress.console.print(f"{number_} {workload.title} ({workload.unit}): {shown}")
        kept = self.content["values"].setdefault(workload.title, {})
        for name in names:
            kept.setdefault(name, []).append(values[name])


def figure_of(server: Server, workload: Workload, round_number: int, progress: Progress) -> float:
    """Run a workload on a server. Returns NaN if it fails."""
    try:
        running = workload.run(server.target, f"{workload.title} {round_number}")
        return asyncio.run(asyncio.wait_for(running, _WORKLOAD_SECONDS))
    except (RuntimeError, TimeoutError) as error:
        progress.console.print(f"{server.target.name}: {workload.title}: {error or 'took too long'}")
        return math.nan


def best_of(figures: Mapping[str, float], *, more_is_better: bool) -> str:
    """Return the name of the best figure. One that is NaN is best only among such."""
    worst = -math.inf
    ordered = {name: value if more_is_better else -value for name, value in figures.items()}
    return max(ordered, key=lambda name: worst if math.isnan(ordered[name]) else ordered[name])


def kernels() -> str:
    """Return which kernels an infrs server of this environment runs, in words."""
    library = native.library()
    return f"its own kernels (build {native.build_id(library)})" if library else "ONNX Runtime's kernels"


def draw_gaps(contenders: Sequence[Contender]) -> None:
    """Plot the running stream of some contenders while a fresh long prompt arrives."""
    streams = {}
    for contender in contenders:
        running, _ = asyncio.run(workloads.stream_during_a_prompt(contender.server.target, "plot"))
        streams[contender.name] = running
    heading = "A stream while a 1,200-token prompt arrives after 0.5 s\n" + title(["SmolLM2-135M"], machine())
    plots.draw_gaps(page.PAGE.parent / "images" / "gaps.png", streams, heading, log=True)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Options of a comparison. pairs: infrs dtypes and llama.cpp types. only: a pattern of workload titles."""

    pairs: Sequence[tuple[Dtype, str]]
    rounds: int
    only: str
    models_cache: Path
    peers: Sequence[str] = ()

    def speed(self) -> None:
        """Measure the demo against llama.cpp. Neither drafts tokens."""
        with ExitStack() as stack:
            contenders = self._start(stack)
            run = self._run("speed")
            run.measure(contenders, self._matching(workloads.WORKLOADS), self.rounds)
            if run.content["values"].get(workloads.GAPS):
                names = ("infrs int8", "infrs int4", "llama.cpp Q8_0")
                draw_gaps([contender for contender in contenders if contender.name in names])

    def larger(self) -> None:
        """Measure a billion random weights against llama.cpp, pair by pair: all files together need 12 GB."""
        run = self._run("larger")
        for dtype, kind in self.pairs:
            with ExitStack() as stack:
                folder, file = models.larger_bundle(dtype), models.larger_gguf(kind)
                pair = [_infrs(stack, dtype, folder), _llamacpp(stack, kind, file)]
                run.measure(pair, self._matching(workloads.LEADING), self.rounds)

    def drafts(self) -> None:
        """Measure the drafts that need no draft model, with int8 and llama.cpp's Q8_0."""
        folder, file = models.bundle(self.models_cache, "int8"), models.gguf("Q8_0")
        with ExitStack() as stack:
            drafting = {
                kind: stack.enter_context(
                    peer_servers.llamacpp_native(f"llama.cpp {kind}", file, 8, 16384, "--spec-type", kind)
                )
                for kind in _DRAFTS
            }
            contenders = [
                _infrs(stack, "int8", folder),
                Contender("infrs int8, drafts", {"": stack.enter_context(peer_servers.infrs("infrs", folder))}),
                _llamacpp(stack, "Q8_0", file),
                Contender("llama.cpp Q8_0, drafts", drafting),
            ]
            ours, drafted, theirs, spec = (contender.name for contender in contenders)
            pairs = [(drafted, spec), (drafted, theirs), (drafted, ours), (spec, theirs)]
            self._run("drafts", pairs).measure(contenders, self._matching(workloads.DRAFTED), self.rounds)

    def scaling(self) -> None:
        """Measure contexts and batches, each with as many slots and as much context as it needs."""
        run = self._run("scaling")
        for group, slots, context in ((workloads.BEHIND, 1, 4352), (workloads.PARALLEL, 32, 16384)):
            with ExitStack() as stack:
                if chosen := self._matching(group):
                    run.measure(self._start(stack, slots=slots, context=context), chosen, self.rounds)

    def others(self) -> None:
        """Measure the demo against peers other than llama.cpp."""
        with ExitStack() as stack:
            dtypes: list[Dtype] = ["int4", "int8", "bfloat16"]
            contenders = [_infrs(stack, dtype, models.bundle(self.models_cache, dtype)) for dtype in dtypes]
            pairs: list[tuple[str, str]] = []
            versions: dict[str, str] = {}
            for name in self.peers:
                peer = peer_servers.PEERS[name]
                server = stack.enter_context(peer.start(peer.kind, self.models_cache))
                contenders.append(Contender(server.target.name, {"": server}))
                pairs.append((f"infrs {peer.dtype}", server.target.name))
                versions |= peer.versions
            run = Run("others", pairs, {"infrs": version("infrs"), "onnxruntime": version("onnxruntime")} | versions)
            run.measure(contenders, self._matching(workloads.LEADING), self.rounds)

    def _run(self, kind: results.Kind, pairs: Sequence[tuple[str, str]] = ()) -> Run:
        versions = {name: version(name) for name in ("infrs", "onnxruntime")}
        versions |= {"llama.cpp of llama-cpp-python": llamacpp_native.VERSION}
        return Run(kind, pairs or [(f"infrs {dtype}", f"llama.cpp {type_}") for dtype, type_ in self.pairs], versions)

    def _start(self, stack: ExitStack, *, slots: int = 8, context: int = 16384) -> list[Contender]:
        """Start both sides of each pair. slots: parallel sequences. context: of all slots together."""
        ours = () if slots == 8 else ("--max-num-seqs", str(slots), "--max-model-len", str(context // slots))
        contenders = []
        for dtype, kind in self.pairs:
            contenders.append(_infrs(stack, dtype, models.bundle(self.models_cache, dtype), *ours))
            contenders.append(_llamacpp(stack, kind, models.gguf(kind), slots, context))
        return contenders

    def _matching(self, chosen: Sequence[Workload]) -> list[Workload]:
        return [workload for workload in chosen if re.search(self.only, workload.title)]


def _infrs(stack: ExitStack, dtype: Dtype, folder: Path, *flags: str) -> Contender:
    """Start infrs without drafts."""
    name = f"infrs {dtype}"
    return Contender(name, {"": stack.enter_context(peer_servers.infrs(name, folder, _PLAIN, *flags))})


def _llamacpp(stack: ExitStack, kind: str, file: Path, slots: int = 8, context: int = 16384) -> Contender:
    """Start llama.cpp's server with as many threads as there are cores, and with half as many."""
    name, cores = f"llama.cpp {kind}", len(os.sched_getaffinity(0))
    return Contender(
        name,
        {
            f"{count} threads" if count > 1 else "1 thread": stack.enter_context(
                peer_servers.llamacpp_native(name, file, slots, context, "--threads", str(count))
            )
            for count in sorted({cores, max(1, cores // 2)}, reverse=True)
        },
    )


TABLES: Mapping[results.Kind, Callable[[Comparison], None]] = {
    "speed": Comparison.speed,
    "larger": Comparison.larger,
    "drafts": Comparison.drafts,
    "scaling": Comparison.scaling,
    "others": Comparison.others,
}


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
@click.option("--tables", default=",".join(TABLES), callback=_among(TABLES), help="Which tables of the page.")
@click.option("--only", default="", help="Regular expression: run the workloads with a matching title.")
@click.option("--cache", default=MODELS_CACHE, type=click.Path(path_type=Path), help="Where bundles lie.")
def main(pairs: str, peers: list[str], tables: list[results.Kind], cache: Path, *, rounds: int, only: str) -> None:
    """Measure infrs against llama.cpp's server and other peers, and write the whole page."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped then too
    divergence.measure(pairs, cache)
    comparison = Comparison(parse_pairs(pairs), rounds, only, cache, peers)
    for table in tables:
        TABLES[table](comparison)
    click.echo(page.write())


if __name__ == "__main__":
    main()
