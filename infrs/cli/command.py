"""What the commands share: every error that was foreseen ends them with one line, and an exit code.

Only where there is a choice of commands to run instead does each have a line of its own below.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from infrs.errors import InfrsError


def run(command: click.Command, name: str, arguments: Sequence[str] | None = None) -> None:
    """Run a command as the program of that name. Exit code 130: interrupted. arguments: None is the process's own."""
    try:
        command.main(arguments, prog_name=name, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.UsageError as error:
        _fail(name, _with_help(error), error.exit_code)
    except click.ClickException as error:
        _fail(name, error.format_message(), error.exit_code)
    except InfrsError as error:
        _fail(name, str(error), error.exit_code, error.commands)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)


def _with_help(error: click.UsageError) -> str:
    """Return the message of an error, with what to write instead, or where the help is if it says neither."""
    message, context = error.format_message(), error.ctx
    if context is None:
        return message
    option = error.option_name if isinstance(error, click.NoSuchOption) else ""
    for parameter in context.command.params:
        if isinstance(parameter, click.Argument) and option == f"--{parameter.name}":
            command = f"{context.command_path} {parameter.make_metavar(context)}"
            return f"No such option '{option}'; leave the flag out: {command}"
    says_what_to_do = ";" in message or "Did you mean" in message
    return message if says_what_to_do else f"{message.rstrip('.')}; see {context.command_path} --help"


def _fail(name: str, message: str, exit_code: int, commands: Sequence[str] = ()) -> NoReturn:
    click.echo(_on_a_line(f"{name}: {message}"), err=True)
    for command in commands:
        click.echo(f"  {_on_a_line(command)}", err=True)
    sys.exit(exit_code)


def _on_a_line(text: str) -> str:
    """Without control characters, which the files of a model may have put into it."""
    line = " ".join(text.split())
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)
