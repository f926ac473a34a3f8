"""The files of `/v1/files`, on disk. An API key sees only its own."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Self

import orjson

from infrs.api.common.errors import FileMissingError, FileTooLargeError, StorageFullError
from infrs.batches.disk import Folder
from infrs.batches.quota import Quota

logger = logging.getLogger("infrs.batches")

MAX_FILES = 10_000  # of a key
KEPT_SECONDS = 30 * 86400  # OpenAI's, of files of batches
_MAX_NAME = 255  # characters


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file. Times are Unix times in seconds. filename: as the client gave it; the server never opens that name."""

    id: str
    tenant: str
    filename: str
    purpose: str
    bytes: int
    created_at: int
    expires_at: int

    def describe(self) -> dict[str, Any]:
        """Return OpenAI's file object."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.bytes,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
            "status_details": None,
        }


def new_id(prefix: str) -> str:
    """Return an id that no client can find by trying."""
    return prefix + secrets.token_hex(16)


def too_large(max_bytes: int) -> FileTooLargeError:
    """Return the error of a file with more bytes."""
    return FileTooLargeError(
        f"the file is larger than server.max_file_mb, {max_bytes >> 20} MiB; split it", param="file"
    )


class FileStore:
    """Stores files. Methods that wait for the disk say so: call them in a thread."""

    def __init__(self, folder: Folder, max_bytes: int, max_file_bytes: int, unfinished: Collection[str] = ()) -> None:
        """Open the folder. unfinished: ids of files that a batch still writes; no client sees them. Raises OSError."""
        self.folder, self.max_file_bytes = folder, max_file_bytes
        self.quota = Quota(max_bytes)
        self._files: dict[str, StoredFile] = {}
        for name in unfinished:
            folder.hide(name)
        for name, content in folder.entries():
            try:
                file = StoredFile(**orjson.loads(content))
            except (orjson.JSONDecodeError, TypeError):
                logger.warning("%s/%s.json describes no file; it is left alone", "server.files_dir/files", name)
            else:
                self._files[file.id] = file
                self.quota.add(file.tenant, file.bytes)
        folder.remove_data_but({*self._files, *unfinished})

    def get(self, tenant: str, file_id: str) -> StoredFile:
        """Return a file of a tenant. Raises FileMissingError."""
        file = self._files.get(file_id)
        if file is None or file.tenant != tenant or file.expires_at <= time.time():
            raise FileMissingError(
                "no file has this id; it was never uploaded, was deleted, or has expired", param="file_id"
            )
        return file

    def of(self, tenant: str) -> list[StoredFile]:
        """Return the files of a tenant, oldest first."""
        now = time.time()
        mine = (file for file in [*self._files.values()] if file.tenant == tenant and file.expires_at > now)
        return sorted(mine, key=lambda file: (file.created_at, file.id))

    def upload(self, tenant: str) -> Upload:
        """Begin a file. Raises StorageFullError for a key with too many."""
        if len(self.of(tenant)) >= MAX_FILES:
            raise StorageFullError(f"{MAX_FILES:,} files are stored, as many as a key may have; delete some")
        return Upload(self, tenant)

    def publish(self, file: StoredFile) -> StoredFile:
        """Make data of the folder a file. Waits for the disk. Raises OSError."""
        self.folder.write(file.id, orjson.dumps(file))
        self._files[file.id] = file
        return file

    def delete(self, file: StoredFile) -> None:
        """Delete a file. Waits for the disk."""
        if self._files.pop(file.id, None) is not None:
            self.folder.remove(file.id)
            self.quota.add(file.tenant, -file.bytes)

    def delete_expired(self, but: set[str]) -> None:
        """Delete the files that have expired, except those in use. Waits for the disk."""
        now = time.time()
        for file in [*self._files.values()]:
            if file.expires_at <= now and file.id not in but:
                self.delete(file)


class Upload:
    """A file that arrives: `with store.upload(tenant) as upload`. Without `finish`, nothing of it remains."""

    def __init__(self, store: FileStore, tenant: str) -> None:
        self._store, self._tenant = store, tenant
        self.id, self.num_bytes = new_id("file-"), 0
        self._part = store.folder.part(self.id)
        self._file = self._part.open("xb")
        self._is_finished = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if not self._is_finished:
            self._part.unlink(missing_ok=True)
            self._store.folder.remove(self.id)
            self._store.quota.add(self._tenant, -self.num_bytes)

    def write(self, data: bytes | bytearray) -> None:
        """Add bytes. Waits for the disk. Raises FileTooLargeError, StorageFullError, OSError."""
        most = self._store.max_file_bytes
        if self.num_bytes + len(data) > most:
            raise too_large(most)
        self._store.quota.take(self._tenant, len(data))
        self.num_bytes += len(data)
        self._file.write(data)

    def finish(self, filename: str, purpose: str, kept_seconds: int | None) -> StoredFile:
        """Store the file under its id. Waits for the disk. Raises OSError."""
        self._file.flush()
        os.fsync(self._file.fileno())
        os.replace(self._part, self._store.folder.data(self.id))
        now = int(time.time())
        name = "".join(char for char in filename if char.isprintable())[:_MAX_NAME]
        expires = now + (kept_seconds or KEPT_SECONDS)
        stored = self._store.publish(StoredFile(self.id, self._tenant, name, purpose, self.num_bytes, now, expires))
        self._is_finished = True
        return stored
