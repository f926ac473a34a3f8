"""`infrs`: one name for all commands. A command is imported when it is needed."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

import click

from infrs import __version__
from infrs.cli.command import run


@dataclass(frozen=True, slots=True)
class Entry:
    """A command: where it is, `module:name`, and its line in the help. program: another entry point that runs it."""

    where: str
    help: str
    program: str = ""


_COMMANDS = {
    "chat": Entry("infrs.terminal.chat:chat", "Chat with a model in the terminal."),
    "serve": Entry("infrs.cli.serve:command", "Serve a model (infrs-serve).", "infrs.cli.entry:serve"),
    "pull": Entry("infrs.terminal.models:pull", "Export a model into the cache."),
    "models": Entry("infrs.terminal.models:models", "List the models in the cache, or remove one."),
    "batch": Entry("infrs.terminal.batch:batch", "Answer a file of requests, as OpenAI's batches do."),
    "doctor": Entry("infrs.terminal.doctor:doctor", "Check this machine and say what to do."),
    "bench": Entry("infrs.bench.entry:command", "Measure servers (infrs-bench).", "infrs.bench.entry:main"),
    "export": Entry("infrs_export.cli:main", "Export a model (infrs-export).", "infrs_export.entry:main"),
    "completion": Entry("infrs.terminal.completion:completion", "Print a script that completes commands in a shell."),
}


def _load(where: str) -> Any:  # noqa: ANN401  # a command or a function
    module, _, name = where.partition(":")
    return getattr(import_module(module), name)


class _Group(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*_COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = _COMMANDS.get(cmd_name)
        return cast(click.Command, _load(entry.where)) if entry else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in _COMMANDS.items()])


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="infrs")
def group() -> None:
    """Run language models on CPUs.

    To begin: infrs chat Qwen/Qwen3-0.6B
    """


def main() -> None:
    """Run the command. One with a program of its own runs as that: a server settles signals before it imports."""
    entry = _COMMANDS.get(next(iter(sys.argv[1:]), ""))
    if entry is not None and entry.program and "_INFRS_COMPLETE" not in os.environ:
        del sys.argv[1]
        _load(entry.program)()
    else:
        run(group, "infrs")
