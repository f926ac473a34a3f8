"""`infrs batch`: answer a file of requests, with progress, and continue after an interruption."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import click
import orjson
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from infrs.batches.lines import BatchError, BatchRequest, answer_line, error_line, keep_answers, read_requests
from infrs.batches.retry_pauses import BUSY, Patience
from infrs.bench.transport import ServerError, post_json
from infrs.terminal.completion import complete_model
from infrs.terminal.partner import Partner, partner_flags, reach


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("requests", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("answers", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("model", required=False, shell_complete=complete_model)
@partner_flags
@click.option("--concurrency", type=click.IntRange(1, 1024), default=16, show_default=True, help="Requests at a time.")
def batch(
    requests: Path,
    answers: Path,
    model: str | None,
    *,
    url: str | None,
    api_key: str | None,
    dtype: str | None,
    concurrency: int,
) -> None:
    """Answer each line of REQUESTS with a line of ANSWERS.

    The lines are those of OpenAI's Batch API. Run the same command again to continue after an interruption: requests
    with an answer are left out. MODEL is for requests that name none; it is found as `infrs chat` finds it.

    Exit code 1: some requests have no answer, or an error.
    """
    all_requests = read_all(requests)  # before a server starts, so that a wrong line is named first
    done = keep_answers(answers, {request.custom_id for request in all_requests})
    todo = [request for request in all_requests if request.custom_id not in done]
    if done:
        click.echo(f"{len(done)} of {len(all_requests)} requests have an answer; {len(todo)} are left", err=True)
    if not todo:
        return
    with ExitStack() as stack:
        partner = reach(stack, model, url, api_key, dtype)
        with answers.open("ab") as file, _progress() as progress:
            run = Run(partner, file, progress, progress.add_task("requests", total=len(todo)))
            try:
                asyncio.run(run.answer_all(todo, concurrency))
            except KeyboardInterrupt:
                left = len(todo) - run.statuses.total()
                raise ServerError(f"interrupted with {left} requests left; run the same command to continue") from None
    words = ", ".join(f"{count} with status {status or 'none'}" for status, count in sorted(run.statuses.items()))
    click.echo(f"{answers}: {words}", err=True)
    sys.exit(any(status != 200 for status in run.statuses))


def read_all(path: Path) -> list[BatchRequest]:
    """Read all requests of a file. Raises BatchError, which names the first line that is no request."""
    requests = []
    try:
        for request in read_requests(path):
            if isinstance(request, BatchError):
                raise request
            requests.append(request)
    except BatchError as error:
        raise BatchError(f"{path}: {error}") from None
    return requests


@dataclass
class Run:
    """The requests of a batch on their way. statuses: how many answers had each status, 0 for none."""

    partner: Partner
    file: BinaryIO
    progress: Progress
    task: TaskID
    statuses: Counter[int] = field(default_factory=Counter)

    async def answer_all(self, requests: Iterable[BatchRequest], concurrency: int) -> None:
        """Send all requests, `concurrency` at a time, and write each answer when it arrives."""
        waiting = iter(requests)

        async def work() -> None:
            for request in waiting:
                await self._answer(request)

        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work())

    async def _answer(self, request: BatchRequest) -> None:
        status, body, error = await self._send(request)
        name = request.custom_id
        self.file.write(answer_line(name, name, status, body) if status else error_line(name, "no_answer", error))
        self.file.flush()  # so that nothing is lost if this process is killed
        self.statuses[status] += 1
        self.progress.advance(self.task)

    async def _send(self, request: BatchRequest) -> tuple[int, Any, str]:
        """Return the status, the body and, without an answer, the reason."""
        sent = orjson.dumps({"model": self.partner.model} | request.body)
        patience = Patience()
        while True:
            try:
                return 200, await post_json(self.partner.endpoint, request.url.removeprefix("/v1"), sent), ""
            except ServerError as error:
                if error.status not in BUSY or not await patience.pause():
                    return error.status, _json(error.body) if error.status else None, str(error)


def _json(body: bytes) -> Any:  # noqa: ANN401  # JSON
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return {"error": {"message": body.decode(errors="replace")}}


def _progress() -> Progress:
    """Return a display on standard error, which shows nothing if that is no terminal."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    console = Console(stderr=True)
    return Progress(TextColumn("{task.description}"), *columns, console=console, disable=not console.is_terminal)
