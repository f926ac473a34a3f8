"""`infrs-bench`: measure servers and bundles."""

from __future__ import annotations

import sys

import click

from infrs.bench.engine.command import engine
from infrs.bench.load_cli import load
from infrs.errors import InfrsError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def command() -> None:
    """Measure OpenAI-compatible servers (`load`) and the engine's step on a bundle (`engine`)."""


command.add_command(load)
command.add_command(engine)


def main() -> None:
    """Run the command. Every error that was foreseen is one line and an exit code."""
    try:
        command.main(prog_name="infrs-bench", standalone_mode=False)
    except click.ClickException as error:
        _fail(error.format_message(), error.exit_code)
    except InfrsError as error:
        _fail(str(error), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)


def _fail(message: str, exit_code: int) -> None:
    click.echo(f"infrs-bench: {' '.join(message.split())}", err=True)
    sys.exit(exit_code)
