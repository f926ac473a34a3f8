"""What a server could be set to: Python's switch interval, the loop, threads tied to cores, chunks, threads. In turns.

python benchmarks/server_knobs.py BUNDLE [--rounds 7] [--knobs REGEX] [--workloads REGEX]
"""

from __future__ import annotations

import asyncio
import re
import statistics
import sys
from contextlib import ExitStack
from pathlib import Path

import click
import peer_servers
from peer_workloads import WORKLOADS

from infrs.bench.report import number, shown_ratio
from infrs.bench.stats import ratio

_TIED = """
import infrs.engine.runners.session as session
made = session._options
def tied(*args, **kwargs):
    options = made(*args, **kwargs)
    options.add_session_config_entry("session.intra_op_thread_affinities", "2")
    return options
session._options = tied
"""
AS_IT_IS = "as it is"
KNOBS: dict[str, tuple[str, list[str]]] = {  # code that runs first, and flags
    AS_IT_IS: ("", []),
    "a switch interval of 0.5 ms": ("sys.setswitchinterval(0.0005)", []),
    "a switch interval of 50 ms": ("sys.setswitchinterval(0.05)", []),
    "asyncio's own loop": ("import sanic.mixins.startup as startup\nstartup.try_use_uvloop = lambda: None", []),
    "the second thread tied to a core": (_TIED, []),
    "one thread": ("", ["--threads", "1"]),
    **{f"chunks of {size}": ("", ["--prefill-chunk", str(size)]) for size in (32, 64, 256, 512)},
}


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@click.option("--rounds", default=7, show_default=True)
@click.option("--knobs", default="", help="Regular expression: those whose name it matches, beside none.")
@click.option("--workloads", default="^one stream|^8 streams|^48 short", help="Likewise, by their titles.")
def main(bundle: Path, rounds: int, knobs: str, workloads: str) -> None:
    """Print the figure of each, and how many times better it is than the server as it is."""
    chosen = {name: KNOBS[name] for name in KNOBS if name == AS_IT_IS or re.search(knobs, name)}
    with ExitStack() as stack:
        servers = []
        for name, (code, flags) in chosen.items():
            command = [sys.executable, "-c", f"import sys\n{code}\nfrom infrs.cli.entry import serve\nserve()"]
            command += ["--bundle", bundle, "--port", "0", *flags]
            servers.append(
                stack.enter_context(peer_servers._process(name, command, r"serves \S+ at (http://\S+?):? ", 0))
            )
        for workload in WORKLOADS:
            if not re.search(workloads, workload.title):
                continue
            values: dict[str, list[float]] = {name: [] for name in chosen}
            for turn in range(rounds + 1):
                for place in range(len(servers)):
                    target = servers[(place + turn) % len(servers)].target
                    values[target.name].append(asyncio.run(workload.run(target, f"knobs {turn}")))
            first = values[AS_IT_IS][1:]
            click.echo(f"{workload.title} ({workload.unit})")
            for name, measured in values.items():
                better = shown_ratio(ratio(measured[1:], first, more_is_better=workload.more_is_better))
                click.echo(f"  {name}: {number(statistics.median(measured[1:]))}, {better}")


if __name__ == "__main__":
    main()
