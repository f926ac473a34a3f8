"""The stored files and the batches of one server."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from functools import partial
from pathlib import Path

from infrs.batches.batch_record import Batch, BatchStore
from infrs.batches.batch_run import Answer, BatchRun, Means
from infrs.batches.disk import Folder, in_thread, lock
from infrs.batches.files import FileStore, StoredFile, new_id
from infrs.batches.pace import Pace
from infrs.config.settings import ServerSettings
from infrs.errors import ConfigError, RequestError

logger = logging.getLogger("infrs.batches")

_SWEEP_SECONDS = 60.0


class Batches:
    """Stores files, and runs batches. Its methods belong to one event loop."""

    def __init__(self, settings: ServerSettings, pace: Pace, answer: Answer) -> None:
        """Open `server.files_dir`, which no other process may use. Raises ConfigError."""
        root = Path(settings.files_dir)
        self._handle = lock(root)
        try:
            self.store = BatchStore(Folder(root / "batches"))
            unfinished = self.store.names_unfinished
            self.files = FileStore(
                Folder(root / "files"), settings.files_mb << 20, settings.max_file_mb << 20, unfinished
            )
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"server.files_dir is {root}, which cannot be read: {error}; repair it, or name another folder",
                param="server.files_dir",
            ) from error
        self.pace = pace
        self._means = Means(self.store, self.files, pace, answer, settings.max_body_bytes)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._is_closing = False

    def start(self) -> None:
        """Continue the batches that have not ended, and delete files when they expire."""
        self._tasks[""] = asyncio.create_task(self._sweep())
        for batch in self.store.open:
            self._run(batch)

    async def close(self) -> None:
        """Stop all batches where they are. The next process continues them."""
        self._is_closing = True
        tasks = [*self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        os.close(self._handle)

    async def create(
        self,
        tenant: str,
        *,
        input_file_id: str,
        endpoint: str,
        completion_window: str,
        seconds: int,
        kept_seconds: int | None = None,
        metadata: dict[str, str] | None = None,
    ) -> Batch:
        """Begin a batch. seconds: of its completion window.

        Raises FileMissingError, RequestError, TooManyBatchesError.
        """
        file = self.files.get(tenant, input_file_id)
        if file.purpose != "batch":
            raise RequestError(
                f"input_file_id: the purpose of this file is {file.purpose}; upload one with purpose batch",
                param="input_file_id",
            )
        now = int(time.time())
        batch = Batch(
            id=new_id("batch_"),
            tenant=tenant,
            endpoint=endpoint,
            input_file_id=input_file_id,
            completion_window=completion_window,
            created_at=now,
            expires_at=now + seconds,
            output_id=new_id("file-"),
            error_id=new_id("file-"),
            kept_seconds=kept_seconds,
            metadata=metadata,
        )
        await in_thread(lambda: self.store.add(batch))
        self._run(batch)
        return batch

    async def cancel(self, batch: Batch) -> None:
        """End a batch. Its requests that run are ended too; the answers so far are kept. Raises RequestError."""
        if batch.has_ended:
            raise RequestError(f"{batch.id} is {batch.status} already, and cannot be cancelled", param="batch_id")
        if batch.status != "cancelling":
            batch.reach("cancelling")
            await in_thread(lambda: self.store.save(batch))
            if batch.id in self._tasks:
                self._tasks[batch.id].cancel()

    async def delete(self, file: StoredFile) -> None:
        """Delete a file. Raises RequestError if a batch reads it."""
        self.store.check_unused(file.id)
        await in_thread(lambda: self.files.delete(file))

    def _run(self, batch: Batch) -> None:
        task = self._tasks[batch.id] = asyncio.create_task(BatchRun(batch, self._means).run())
        task.add_done_callback(partial(self._ended, batch))

    def _ended(self, batch: Batch, task: asyncio.Task[None]) -> None:
        del self._tasks[batch.id]
        if task.cancelled():
            is_open = batch in self.store.open
            if is_open and batch.status == "cancelling" and not self._is_closing:  # cancelled before its first step
                self._run(batch)
        elif (error := task.exception()) is not None:
            logger.error("%s cannot be stored; the next start of the server continues it", batch.id, exc_info=error)

    async def _sweep(self) -> None:
        while True:
            await in_thread(lambda: self.files.delete_expired(self.store.names_in_use))
            await asyncio.sleep(_SWEEP_SECONDS)
