"""Run one batch: check its file, answer its requests, and give the client its files."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import orjson

from infrs.api.common.errors import StorageFullError
from infrs.batches.answer_files import AnswerFiles
from infrs.batches.batch_record import Batch, BatchStore, Status
from infrs.batches.disk import in_thread
from infrs.batches.files import FileStore
from infrs.batches.lines import BatchError, BatchRequest, answer_line, error_line, read_requests
from infrs.batches.pace import Pace, Row
from infrs.batches.retry_pauses import BUSY, Patience

logger = logging.getLogger("infrs.batches")

MAX_REQUESTS = 50_000  # OpenAI's
_MAX_ERRORS = 20  # of lines that are named
_EXPIRED = "This request could not be executed before the completion window expired."  # OpenAI's

# Answers a request: returns the status, the id of the request and the body.
Answer = Callable[[BatchRequest, Row], Awaitable[tuple[int, str, bytes]]]


@dataclass(slots=True)
class Means:
    """What all batches share. max_line: most bytes of a line. validation: one file is checked at a time."""

    batches: BatchStore
    files: FileStore
    pace: Pace
    answer: Answer
    max_line: int
    validation: asyncio.Lock = field(default_factory=asyncio.Lock)


class BatchRun:
    """A batch from its beginning, or from where an earlier process left it, to its end."""

    def __init__(self, batch: Batch, means: Means) -> None:
        self._batch, self._means = batch, means
        self._answers: AnswerFiles | None = None

    async def run(self) -> None:
        """Bring the batch to its end. If the task is cancelled, and the batch is not, another run can continue it."""
        try:
            status = await self._until_end()
            await in_thread(partial(self._finish, status))
        finally:
            if self._answers is not None:
                await in_thread(self._answers.close)
        counts = f"{self._batch.completed} requests completed, {self._batch.failed} failed"
        logger.info("%s: %s; %s", self._batch.id, status, counts)

    async def _until_end(self) -> Status:
        """Work until the batch is done, has failed, has expired or is cancelled."""
        batch = self._batch
        try:
            async with asyncio.timeout(batch.remaining):
                return await self._work()
        except TimeoutError:
            return "expired"
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if batch.status != "cancelling" or task is None:
                raise
            task.uncancel()
            return "cancelled"
        except Exception as error:
            cause = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
            if isinstance(cause, StorageFullError | BatchError):
                batch.fail(cause.code, cause.message)
            else:
                logger.error("%s failed", batch.id, exc_info=cause)
                batch.fail("internal_error", "the server failed; see its log")
            return "failed"

    async def _work(self) -> Status:
        batch, means = self._batch, self._means
        if batch.status == "cancelling":  # before it began, or before a restart
            return "cancelled"
        if batch.status == "validating":
            async with means.validation:
                await in_thread(self._check)
            if batch.errors:
                return "failed"
        await in_thread(self._open)
        if batch.status == "validating":
            batch.reach("in_progress")
            await in_thread(partial(means.batches.save, batch))
        await self._answer_all()
        batch.reach("finalizing")
        return "completed"

    def _check(self) -> None:
        """Check each line of the input, and note the errors. Raises BatchError if the file cannot be read."""
        batch = self._batch
        batch.total = 0
        for request in self._requests():
            batch.total += 1
            if isinstance(request, BatchError):
                code = "invalid_value" if request.param else "invalid_json_line"
                batch.fail(code, request.message, request.line, request.param)
            if len(batch.errors) >= _MAX_ERRORS:
                return
            if batch.total > MAX_REQUESTS:
                batch.fail("too_many_requests", f"the file has more than {MAX_REQUESTS:,} requests; split it")
                return
        if not batch.total:
            batch.fail("empty_file", "the file has no request; each line is one")

    def _requests(self) -> Iterator[BatchRequest | BatchError]:
        path = self._means.files.folder.data(self._batch.input_file_id)
        means, urls = self._means, [self._batch.endpoint]
        return read_requests(path, urls=urls, max_line=means.max_line, max_answers=means.pace.max_rows)

    def _open(self) -> AnswerFiles:
        if self._answers is None:
            self._answers = AnswerFiles(self._means.files, self._batch)
        return self._answers

    def _left(self) -> Iterator[BatchRequest]:
        """Yield the requests that have no line yet."""
        answers = self._open()
        for request in self._requests():
            if isinstance(request, BatchError):
                raise request
            if not answers.has(request.custom_id):
                yield request

    async def _answer_all(self) -> None:
        pace, left = self._means.pace, self._left()
        async with asyncio.TaskGroup() as group:
            while (request := await in_thread(partial(next, left, None))) is not None:
                row = Row(self._batch.tenant, request.body.get("model"), request.num_answers)
                await pace.enter(row)
                task = group.create_task(self._answer(request, row))
                task.add_done_callback(partial(pace.ended, row))

    async def _answer(self, request: BatchRequest, row: Row) -> None:
        """Answer a request, and write its line."""
        patience = Patience()
        while True:
            status, request_id, body = await self._means.answer(request, row)
            if status not in BUSY or not await patience.pause():
                break
        answers, name = self._open(), request.custom_id
        line = answer_line(name, request_id, status, orjson.Fragment(body))
        file = answers.output if status < 400 else answers.errors
        await in_thread(partial(file.append, name, line))
        answers.count()

    def _finish(self, status: Status) -> None:
        """Store the files of the batch and its last status."""
        batch, means = self._batch, self._means
        files: tuple[str | None, str | None] = (None, None)
        try:
            if batch.times.get("in_progress"):
                self._open()
                if status == "expired":
                    self._expire()
                self._open().count()
                files = self._open().publish()
        except (OSError, BatchError) as error:
            logger.error("%s: its files cannot be stored: %s", batch.id, error)
            batch.fail("storage_failed", "the server cannot store the files of this batch; see its log")
            status = "failed"
        means.batches.end(batch, status, *files)

    def _expire(self) -> None:
        """Write an error for each request without an answer, as far as there is room."""
        with contextlib.suppress(StorageFullError):
            for request in self._left():
                line = error_line(request.custom_id, "batch_expired", _EXPIRED)
                self._open().errors.append(request.custom_id, line)
