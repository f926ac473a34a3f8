"""What a server could be set to besides: Python's switch interval, the event loop, threads tied to cores. In turns.

python benchmarks/server_knobs.py BUNDLE [--rounds 7]
"""

from __future__ import annotations

import asyncio
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
import infrs.engine.session as session
made = session._options
def tied(*args, **kwargs):
    options = made(*args, **kwargs)
    options.add_session_config_entry("session.intra_op_thread_affinities", "2")
    return options
session._options = tied
"""
KNOBS = {
    "as it is": "",
    "a switch interval of 0.5 ms": "sys.setswitchinterval(0.0005)",
    "a switch interval of 50 ms": "sys.setswitchinterval(0.05)",
    "asyncio's own loop": "import sanic.mixins.startup as startup\nstartup.try_use_uvloop = lambda: None",
    "the second thread tied to a core": _TIED,
}


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@click.option("--rounds", default=7, show_default=True)
def main(bundle: Path, rounds: int) -> None:
    """Print the figure of each, and how many times better it is than the server as it is."""
    with ExitStack() as stack:
        servers = []
        for name, code in KNOBS.items():
            command = [sys.executable, "-c", f"import sys\n{code}\nfrom infrs.cli import serve\nserve()"]
            command += ["--bundle", bundle, "--port", "0"]
            servers.append(
                stack.enter_context(peer_servers._process(name, command, r"serves \S+ at (http://\S+?):? ", 0))
            )
        for workload in WORKLOADS[:3]:
            values: dict[str, list[float]] = {name: [] for name in KNOBS}
            for turn in range(rounds + 1):
                for place in range(len(servers)):
                    target = servers[(place + turn) % len(servers)].target
                    values[target.name].append(asyncio.run(workload.run(target, f"knobs {turn}")))
            first = values["as it is"][1:]
            click.echo(f"{workload.title} ({workload.unit})")
            for name, measured in values.items():
                better = shown_ratio(ratio(measured[1:], first, more_is_better=workload.more_is_better))
                click.echo(f"  {name}: {number(statistics.median(measured[1:]))}, {better}")


if __name__ == "__main__":
    main()
