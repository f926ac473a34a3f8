"""The files that a running batch writes: answers in one, errors in the other."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from infrs.batches.batch_record import Batch
from infrs.batches.files import KEPT_SECONDS, FileStore, StoredFile
from infrs.batches.lines import keep_answers


class AnswerFile:
    """Lines that are appended to a file, each whole or not at all. Every method waits for the disk.

    ids: the custom_id of each line.
    """

    def __init__(self, store: FileStore, tenant: str, name: str) -> None:
        """Continue the file, with the final answers of an earlier run. Raises OSError, BatchError."""
        self.name = name
        self.path: Path = store.folder.data(name)
        self.ids = keep_answers(self.path)
        self._store, self._tenant = store, tenant
        self._file = self.path.open("ab", buffering=0)
        self._lock = threading.Lock()
        self.num_bytes = self.path.stat().st_size
        store.quota.add(tenant, self.num_bytes)

    def append(self, custom_id: str, line: bytes) -> None:
        """Add the line of a request. Raises StorageFullError, OSError."""
        with self._lock:
            self._store.quota.take(self._tenant, len(line))
            try:
                if self._file.write(line) != len(line):
                    raise OSError("the disk is full")
            except OSError:
                self._store.quota.add(self._tenant, -len(line))
                os.truncate(self.path, self.num_bytes)
                raise
            self.num_bytes += len(line)
            self.ids.add(custom_id)

    def close(self) -> None:
        """Close the file; its lines survive a crash of the machine. Raises OSError."""
        if not self._file.closed:
            self._store.quota.add(self._tenant, -self.num_bytes)  # counted again when it is opened or published
            os.fsync(self._file.fileno())
            self._file.close()


class AnswerFiles:
    """The two files of a batch. Every method waits for the disk."""

    def __init__(self, store: FileStore, batch: Batch) -> None:
        """Open the files, and count in `batch` the answers that they have. Raises OSError, BatchError."""
        self._store, self._batch = store, batch
        self.output = AnswerFile(store, batch.tenant, batch.output_id)
        self.errors = AnswerFile(store, batch.tenant, batch.error_id)
        self.count()

    def count(self) -> None:
        """Count in the batch the requests that have a line."""
        self._batch.completed, self._batch.failed = len(self.output.ids), len(self.errors.ids)

    def has(self, custom_id: str) -> bool:
        """Return whether a request has its line."""
        return custom_id in self.output.ids or custom_id in self.errors.ids

    def close(self) -> None:
        """Close the files. Another process can continue them. Raises OSError."""
        self.output.close()
        self.errors.close()

    def publish(self) -> tuple[str | None, str | None]:
        """Close the files, store those with lines for the client, and return their ids. Raises OSError."""
        self.close()
        return self._publish(self.output, "output"), self._publish(self.errors, "error")

    def _publish(self, file: AnswerFile, kind: str) -> str | None:
        if not file.num_bytes:
            file.path.unlink()
            return None
        batch, now = self._batch, int(time.time())
        name, expires = f"{batch.id}_{kind}.jsonl", now + (batch.kept_seconds or KEPT_SECONDS)
        stored = StoredFile(file.name, batch.tenant, name, "batch_output", file.num_bytes, now, expires)
        self._store.publish(stored)
        self._store.quota.add(batch.tenant, file.num_bytes)
        return stored.id
