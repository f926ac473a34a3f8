"""A folder that one process writes: a lock, and files that are written whole or not at all."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from infrs.errors import ConfigError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

T = TypeVar("T")


class Folder:
    """A folder with entries, each a file of JSON, and possibly one of data. No name comes from a client."""

    def __init__(self, path: Path) -> None:
        """Create the folder if it does not exist, and remove what an interrupted write has left. Raises OSError."""
        self._path = path
        self._lock = threading.Lock()
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in path.glob(".*"):
            left.unlink()

    def data(self, name: str) -> Path:
        """Return the path of an entry's data."""
        return self._path / f"{name}.data"

    def part(self, name: str) -> Path:
        """Return the path of data that is not complete. The next process that opens the folder removes it."""
        return self._path / f".{name}.part"

    def write(self, name: str, content: bytes) -> None:
        """Write the JSON of an entry, which survives a crash of the machine. Raises OSError."""
        part = self.part(f"{name}.json")
        with self._lock:
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, self._json(name))
            self._sync()

    def _sync(self) -> None:
        """Wait until the names of the folder are on the disk."""
        handle = os.open(self._path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def remove(self, name: str) -> None:
        """Remove an entry, its JSON first: an entry without it does not exist."""
        self.hide(name)
        self.data(name).unlink(missing_ok=True)

    def hide(self, name: str) -> None:
        """Remove the JSON of an entry, and leave its data."""
        self._json(name).unlink(missing_ok=True)

    def entries(self) -> Iterator[tuple[str, bytes]]:
        """Yield the name and the JSON of each entry."""
        for path in sorted(self._path.glob("*.json")):
            yield path.stem, path.read_bytes()

    def remove_data_but(self, names: set[str]) -> None:
        """Remove all data that belongs to none of these entries."""
        for path in self._path.glob("*.data"):
            if path.stem not in names:
                path.unlink()

    def _json(self, name: str) -> Path:
        return self._path / f"{name}.json"


def lock(folder: Path) -> int:
    """Create a folder and lock it for this process. Return the open handle. Raises ConfigError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigError(
            f"server.files_dir is {folder}, which cannot be written: {error.strerror}; name another folder",
            param="server.files_dir",
        ) from error
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise ConfigError(
            f"server.files_dir is {folder}, which another server uses; name another folder", param="server.files_dir"
        ) from None
    return handle


async def in_thread(work: Callable[[], T]) -> T:
    """Run work that may wait for the disk. A cancellation waits for its end, so that no write is left running."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
