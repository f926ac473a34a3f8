"""`infrs-bench`: measure servers and bundles."""

from __future__ import annotations

import click

from infrs import __version__
from infrs.bench.engine.command import engine
from infrs.bench.load_cli import load
from infrs.cli.command import run


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="infrs-bench")
def command() -> None:
    """Measure OpenAI-compatible servers (`load`) and the engine's step on a bundle (`engine`)."""


command.add_command(load)
command.add_command(engine)


def main() -> None:
    """Run the command."""
    run(command, "infrs-bench")
