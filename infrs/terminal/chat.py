"""`infrs chat`: talk to a model in a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from contextlib import ExitStack, aclosing
from pathlib import Path

import click

from infrs.errors import InfrsError
from infrs.terminal.answers import Kind, Pace, stream_answer
from infrs.terminal.completion import complete_model
from infrs.terminal.conversation import CommandError, Conversation, run_command
from infrs.terminal.partner import Partner, partner_flags, reach

_HISTORY = Path("~/.infrs_history")
_HISTORY_LINES = 1000
_FENCE = '"""'


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model", required=False, shell_complete=complete_model)
@partner_flags
@click.option("-s", "--system", default="", help="System prompt.")
@click.option("-p", "--prompt", help="Ask this, print the answer and leave. Text on standard input follows it.")
@click.option("-t", "--temperature", type=float, help="Sampling temperature. [default: the server's]")
@click.option("--max-tokens", type=int, help="Most tokens of an answer. [default: the server's]")
@click.option("--stats", is_flag=True, help="Show the pace of each answer.")
def chat(
    model: str | None,
    *,
    url: str | None,
    api_key: str | None,
    dtype: str | None,
    system: str,
    prompt: str | None,
    temperature: float | None,
    max_tokens: int | None,
    stats: bool,  # click passes it by name
) -> None:
    """Chat with MODEL in the terminal.

    Uses the server at --url. Without --url, it uses the server on this machine if that has MODEL, and else starts a
    server that ends with the chat. MODEL is what `infrs-serve` takes.
    """
    given = {"temperature": temperature, "max_tokens": max_tokens}
    parameters = {name: value for name, value in given.items() if value is not None}
    conversation = Conversation(system, parameters=parameters, stats=stats)
    with ExitStack() as stack:
        partner = reach(stack, model, url, api_key, dtype)
        if prompt is not None or not sys.stdin.isatty():
            piped = "" if sys.stdin.isatty() else sys.stdin.read().strip()
            conversation.ask("\n\n".join(filter(None, (prompt, piped))))
            _answer(partner, conversation, is_alone=True)
        else:
            _talk(partner, conversation)


def _talk(partner: Partner, conversation: Conversation) -> None:
    """Ask and answer until the person leaves."""
    click.echo(f"{partner.model} at {partner.endpoint.url}. /help lists the commands, Ctrl-D leaves.")
    with _history():
        while True:
            try:
                text = _read()
            except KeyboardInterrupt:
                click.echo()
                continue
            except EOFError:
                click.echo()
                return
            if text.startswith("/"):
                try:
                    reply = run_command(conversation, text)
                except CommandError as error:
                    click.secho(str(error), fg="red")
                    continue
                if reply.leave:
                    return
                if reply.text:
                    click.echo(reply.text)
                text = reply.ask or ""
            if text:
                conversation.ask(text)
                _answer(partner, conversation)


def _read() -> str:
    """Read a question: a line, or lines between triple quotes."""
    text = input(">>> ").strip()
    if not text.startswith(_FENCE):
        return text
    text = text.removeprefix(_FENCE)
    while not text.endswith(_FENCE):
        text += "\n" + input("... ")
    return text.removesuffix(_FENCE).strip()


def _answer(partner: Partner, conversation: Conversation, *, is_alone: bool = False) -> None:
    """Print the next answer as it arrives, and add it to the conversation.

    is_alone: nothing else is printed to standard output, and an error ends the program.
    """
    pace = Pace()
    pieces: list[str] = []

    async def show() -> None:
        kind = Kind.ANSWER
        async with aclosing(stream_answer(partner.endpoint, conversation.body(partner.model), pace)) as stream:
            async for kind_now, text in stream:
                if kind_now is not kind and kind is Kind.REASONING:
                    click.echo("\n", err=is_alone)
                kind = kind_now
                if kind is Kind.ANSWER:
                    pieces.append(text)
                shown = printable(text) if kind is Kind.ANSWER else click.style(printable(text), dim=True)
                click.echo(shown, nl=False, err=is_alone and kind is not Kind.ANSWER)

    try:
        asyncio.run(show())
    except KeyboardInterrupt:
        if is_alone:
            raise
    except InfrsError as error:
        if is_alone:
            raise
        click.secho(str(error), fg="red")
    click.echo()
    conversation.answer("".join(pieces))
    if pace.finish_reason == "length":
        click.secho("[the answer was cut at its token limit]", dim=True, err=is_alone)
    if conversation.stats and pace.num_answer:
        click.secho(str(pace), dim=True, err=is_alone)


def printable(text: str) -> str:
    """Return text without control characters, which could command the terminal."""
    return "".join(letter for letter in text if letter.isprintable() or letter in "\n\t")


@contextlib.contextmanager
def _history() -> Iterator[None]:
    """Edit lines, and remember them for the next chat, where Python has readline."""
    try:
        import readline  # noqa: PLC0415  # not on every platform
    except ImportError:
        yield
        return
    path = _HISTORY.expanduser()
    with contextlib.suppress(OSError):
        readline.read_history_file(path)
    readline.set_history_length(_HISTORY_LINES)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.touch(mode=0o600)
            readline.write_history_file(path)
