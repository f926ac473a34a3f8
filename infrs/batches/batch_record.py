"""A batch: its record on disk, and OpenAI's description of it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import orjson

from infrs.api.common.errors import BatchMissingError, TooManyBatchesError
from infrs.batches.disk import Folder
from infrs.errors import RequestError

Status = Literal["validating", "in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled"]
ENDED = ("completed", "failed", "expired", "cancelled")
MAX_OPEN = 64  # batches of a key that have not ended
MAX_BATCHES = 1000  # of a key; a new one makes room for itself
_TIMES = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")


@dataclass(slots=True, kw_only=True)
class Batch:
    """A batch. Times are Unix times in seconds.

    output_id, error_id: names of the files that it writes, clients see them once it has ended. times: when it reached
    each status. errors: why it failed. kept_seconds: how long its files are kept.
    """

    id: str
    tenant: str
    endpoint: str
    input_file_id: str
    completion_window: str
    created_at: int
    expires_at: int
    output_id: str
    error_id: str
    kept_seconds: int | None = None
    metadata: dict[str, str] | None = None
    status: Status = "validating"
    times: dict[str, int] = field(default_factory=dict)
    errors: list[dict[str, Any]] = field(default_factory=list)
    total: int = 0
    completed: int = 0
    failed: int = 0
    output_file_id: str | None = None
    error_file_id: str | None = None

    @property
    def has_ended(self) -> bool:
        """Return whether its status is final."""
        return self.status in ENDED

    @property
    def remaining(self) -> float:
        """Return the seconds until it expires, at least 0."""
        return max(0.0, self.expires_at - time.time())

    def reach(self, status: Status) -> None:
        """Set the status, and note the time."""
        self.status = status
        self.times[status] = int(time.time())

    def fail(self, code: str, message: str, line: int | None = None, param: str | None = None) -> None:
        """Note why the batch fails."""
        self.errors.append({"code": code, "message": message, "param": param, "line": line})

    def describe(self) -> dict[str, Any]:
        """Return OpenAI's batch object."""
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "errors": {"object": "list", "data": self.errors} if self.errors else None,
            "input_file_id": self.input_file_id,
            "completion_window": self.completion_window,
            "status": self.status,
            "output_file_id": self.output_file_id,
            "error_file_id": self.error_file_id,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            **{f"{status}_at": self.times.get(status) for status in _TIMES},
            "request_counts": {"total": self.total, "completed": self.completed, "failed": self.failed},
            "metadata": self.metadata,
        }


class BatchStore:
    """The records of all batches. An API key sees only its own."""

    def __init__(self, folder: Folder) -> None:
        """Read the records. Raises OSError, ValueError for one that is damaged."""
        self._folder = folder
        self._lock = threading.Lock()
        self._batches: dict[str, Batch] = {}
        for name, content in folder.entries():
            try:
                self._batches[name] = Batch(**orjson.loads(content))
            except (orjson.JSONDecodeError, TypeError) as error:
                raise ValueError(f"{name}.json describes no batch") from error

    @property
    def open(self) -> list[Batch]:
        """Return the batches that have not ended, oldest first."""
        return sorted((batch for batch in self._batches.values() if not batch.has_ended), key=_age)

    @property
    def names_in_use(self) -> set[str]:
        """Return the ids of the files that open batches read."""
        return {batch.input_file_id for batch in self.open}

    @property
    def names_unfinished(self) -> set[str]:
        """Return the ids of the files that open batches write."""
        return {name for batch in self.open for name in (batch.output_id, batch.error_id)}

    def get(self, tenant: str, batch_id: str) -> Batch:
        """Return a batch of a tenant. Raises BatchMissingError."""
        batch = self._batches.get(batch_id)
        if batch is None or batch.tenant != tenant:
            raise BatchMissingError("no batch has this id; list your batches with GET /v1/batches", param="batch_id")
        return batch

    def of(self, tenant: str) -> list[Batch]:
        """Return the batches of a tenant, oldest first."""
        return sorted((batch for batch in self._batches.values() if batch.tenant == tenant), key=_age)

    def add(self, batch: Batch) -> None:
        """Add a batch. The oldest that has ended may make room. Waits for the disk. Raises TooManyBatchesError."""
        mine = self.of(batch.tenant)
        if sum(not each.has_ended for each in mine) >= MAX_OPEN:
            raise TooManyBatchesError(f"{MAX_OPEN} batches of this API key are in progress; wait for one of them")
        for old in [each for each in mine if each.has_ended][: max(0, len(mine) + 1 - MAX_BATCHES)]:
            del self._batches[old.id]
            self._folder.remove(old.id)
        self._batches[batch.id] = batch
        self.save(batch)

    def save(self, batch: Batch) -> None:
        """Write the record of a batch, unless it has ended. Waits for the disk. Raises OSError."""
        with self._lock:
            if self._batches.get(batch.id) is batch:
                self._folder.write(batch.id, orjson.dumps(batch))

    def end(self, batch: Batch, status: Status, output: str | None, errors: str | None) -> None:
        """Give a batch its last status and its files, once that is on the disk. Raises OSError."""
        ended = replace(batch, times={**batch.times}, output_file_id=output, error_file_id=errors)
        ended.reach(status)
        with self._lock:
            self._folder.write(batch.id, orjson.dumps(ended))
            self._batches[batch.id] = ended

    def check_unused(self, file_id: str) -> None:
        """Raise RequestError if an open batch uses a file."""
        user = next((each for each in self.open if file_id == each.input_file_id), None)
        if user is not None:
            raise RequestError(f"{user.id} reads this file; cancel that first", param="file_id", code="file_in_use")


def _age(batch: Batch) -> tuple[int, str]:
    return batch.created_at, batch.id
