"""One bundle against llama.cpp's server on a GGUF file of the same weights, in turns: speed alone.

    python -m benchmarks.peers.pair BUNDLE FILE.gguf [--rounds 4] [--native]

`random_model` makes files in the shapes of models that are not at hand.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import click

from benchmarks.peers import servers, workloads
from infrs.bench.client import Target
from infrs.bench.report import shown_ratio
from infrs.bench.stats import ratio

SLOTS, CONTEXT = 8, 16384  # of llama.cpp; the context is that of all slots together

# The figure of each workload, and whether more of it is better.
WORKLOADS: dict[str, tuple[Callable[[Target, str], Coroutine[Any, Any, float]], bool]] = {
    "one stream, tokens/s": (workloads.one_stream, True),
    "8 streams, tokens/s": (workloads.eight_streams, True),
    "a prompt of 1,200 tokens, s": (workloads.long_prompt, False),
    "its second turn, s": (workloads.second_turn, False),
}


@click.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("gguf", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--rounds", default=4, show_default=True, help="Rounds after one that is not counted.")
@click.option("--native", is_flag=True, help="Compile llama.cpp for this processor, instead of its wheel.")
def main(bundle: Path, gguf: Path, rounds: int, *, native: bool) -> None:
    """Print the median of each figure, and the ratio with its spread."""
    found: dict[str, list[tuple[float, float]]] = {title: [] for title in WORKLOADS}
    peer = servers.llamacpp_native("llama.cpp", gguf, SLOTS, CONTEXT) if native else servers.llamacpp("llama.cpp", gguf)
    with servers.infrs("infrs", bundle) as ours, peer as theirs:
        sizes = [(server.ready_seconds, server.resident_bytes / 1e6) for server in (ours, theirs)]
        for number in range(rounds + 1):
            for title, (run, _) in WORKLOADS.items():
                pair = [asyncio.run(run(server.target, f"{title} {number}")) for server in (ours, theirs)]
                found[title].append((pair[0], pair[1]))
    click.echo("| figure | infrs | llama.cpp | ratio |\n| --- | ---: | ---: | --- |")
    for title, (_, more) in WORKLOADS.items():
        mine, others = zip(*found[title][1:], strict=True)
        medians = " | ".join(f"{statistics.median(values):.3g}" for values in (mine, others))
        click.echo(f"| {title} | {medians} | {shown_ratio(ratio(mine, others, more_is_better=more))} |")
    for title, mine, other in zip(("ready after, s", "memory at rest, MB"), *sizes, strict=True):
        click.echo(f"| {title} | {mine:.3g} | {other:.3g} | {other / mine:.2f}x |")


if __name__ == "__main__":
    main()
