"""The files of a bundle: open, checked, and guarded against changes for as long as a model uses them.

ONNX Runtime maps the weights, so a program that writes to their file would change answers, and one that truncates it
would end this process with SIGBUS. On Linux each file has a read lease (fcntl(2), F_SETLEASE): a program that wants to
write to it waits, at most `/proc/sys/fs/lease-break-time` seconds, and `BundleFiles.disturbed` reports it before
a byte has changed. A lease needs the owner of the file or CAP_LEASE, and some file systems have none. Without it,
`disturbed` reports a new size or modification time. Another file under the same name changes nothing: the open
file stays as it is.

The weights are hashed on another thread while the model loads: 1 GB takes about a second. `BundleFiles.confirm` waits
for it, and a model is ready after that.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path

from infrs.bundle.manifest import MANIFEST_FILE, AnyManifest, FileEntry, read_manifest
from infrs.errors import BundleError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_OPEN_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # opening a pipe would never return


class BundleFile:
    """One open file of a bundle."""

    def __init__(self, path: Path) -> None:
        """Open a file. Raises OSError, and BundleError if it is not a plain file."""
        if path.is_symlink() or not path.is_file():
            raise BundleError(f"{path} is missing or not a plain file; export the model again")
        self.path = path
        self._file = open(path, "rb", buffering=0, opener=_open)  # noqa: SIM115  # until `close`
        self._is_leased = _lease(self._file)
        self._is_stopped = False
        self._opened = os.fstat(self._file.fileno())
        if not stat.S_ISREG(self._opened.st_mode):  # it has replaced a plain file in this moment
            self.close()
            raise BundleError(f"{path} is not a plain file; export the model again")

    def check_size(self, entry: FileEntry) -> None:
        """Raise BundleError unless the file has the size of the manifest's entry."""
        if self._opened.st_size != entry.size:
            raise BundleError(f"{self.path} has {self._opened.st_size} bytes, not {entry.size}; export the model again")

    def check_hash(self, entry: FileEntry) -> None:
        """Raise BundleError unless the content has the SHA-256 of the manifest's entry. Hashing releases the GIL.

        It ends early, with the same error, after `stop` in another thread.
        """
        digest, buffer = hashlib.sha256(), memoryview(bytearray(1 << 20))
        try:
            while (size := self._file.readinto(buffer)) and not self._is_stopped:
                digest.update(buffer[:size])
        except OSError as error:
            raise _unreadable(self.path, error) from error
        if digest.hexdigest() != entry.sha256:
            raise BundleError(f"{self.path} does not match its SHA-256; export the model again")

    def stop(self) -> None:
        """End a `check_hash` that runs in another thread."""
        self._is_stopped = True

    @property
    def is_in_place(self) -> bool:
        """Return whether the path leads to this very file."""
        with suppress(OSError):
            return os.path.samestat(self.path.lstat(), self._opened)
        return False

    @property
    def is_protected(self) -> bool:
        """Return whether no program can change the file unnoticed: by a lease, or on a read-only file system."""
        return self._is_leased or bool(os.fstatvfs(self._file.fileno()).f_flag & os.ST_RDONLY)

    @property
    def is_disturbed(self) -> bool:
        """Return whether a program has changed the file, or waits to write to it. False after `close`."""
        try:
            now = os.fstat(self._file.fileno())
            if (now.st_size, now.st_mtime_ns) != (self._opened.st_size, self._opened.st_mtime_ns):
                return True
            return self._is_leased and fcntl.fcntl(self._file, fcntl.F_GETLEASE) != fcntl.F_RDLCK
        except (OSError, ValueError):  # closed by another thread, or no longer on its server
            return not self._file.closed

    def close(self) -> None:
        """Close the file, which ends its lease."""
        self._file.close()


class BundleFiles:
    """The open files of a bundle: all are checked, but the hash of the weights may still be computed."""

    def __init__(self, manifest: AnyManifest, files: list[BundleFile], hashes: Sequence[Future[None]] = ()) -> None:
        self.manifest = manifest
        self._files = files
        self._hashes = hashes

    def join(self, other: BundleFiles) -> None:
        """Take over the confirmed files of another bundle."""
        self._files += other._files

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Confirm the files after a block that reads them by their paths, and close them if it or that fails.

        If the weights are damaged, BundleError for their hash replaces the error of the block.
        """
        try:
            try:
                yield
            finally:
                self.confirm()
        except BaseException:
            self.close()
            raise

    def confirm(self) -> None:
        """Wait for the hash of the weights, and check that the files are those that were opened.

        A model that has read the files by their paths before has then read what was verified.
        Raises BundleError if the hash differs, or if a file was replaced or changed after it was opened.
        """
        for hashed in self._hashes:
            hashed.result()
        for file in self._files:
            if file.is_disturbed or not file.is_in_place:
                raise BundleError(f"{file.path} was changed while the model was loaded; start again")

    def disturbed(self) -> Path | None:
        """Return a file that another program has changed or waits to write to, or None."""
        return next((file.path for file in self._files if file.is_disturbed), None)

    def unprotected(self) -> Path | None:
        """Return a file that a program could change unnoticed, or None. None on a system without leases."""
        if not hasattr(fcntl, "F_SETLEASE"):
            return None
        return next((file.path for file in self._files if not file.is_protected), None)

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.stop()
        wait(self._hashes)
        while self._files:
            self._files.pop().close()


def open_files(bundle: Path) -> BundleFiles:
    """Open a bundle's files and check that they are exactly those of its manifest.

    The weights' hash is computed on another thread: call `confirm` before an answer depends on it.
    Raises BundleError, with its name, for a file that is missing, altered, unlisted, unreadable or not a plain file.
    """
    manifest = read_manifest(bundle)
    opened: list[BundleFile] = []
    hashes: list[Future[None]] = []
    files = BundleFiles(manifest, opened, hashes)
    try:
        _check_names(bundle, manifest)
        for name in sorted(manifest.files):
            opened.append(BundleFile(bundle / name))
        for file in opened:
            file.check_size(manifest.files[file.path.name])
        with _other_thread() as pool:
            for file in opened:
                entry = manifest.files[file.path.name]
                if file.path.name == f"{manifest.graph_file}.data":
                    hashes.append(pool.submit(file.check_hash, entry))
                else:
                    file.check_hash(entry)
    except OSError as error:
        files.close()
        raise _unreadable(bundle, error) from error
    except BaseException:
        files.close()
        raise
    return files


def verify_bundle(bundle: Path) -> AnyManifest:
    """Return the manifest of a bundle with verified files. Raises as `open_files` and `confirm` do."""
    files = open_files(bundle)
    with files.in_use():
        pass
    files.close()
    return files.manifest


def _check_names(bundle: Path, manifest: AnyManifest) -> None:
    if manifest.graph_file not in manifest.files:
        raise BundleError(f"{bundle}: {manifest.graph_file} is not listed in its manifest; export the model again")
    present = {entry.name for entry in os.scandir(bundle)} - {MANIFEST_FILE}
    for name in sorted(present - manifest.files.keys()):
        raise BundleError(f"{bundle / name} is not listed in the bundle's manifest; export the model again")


@contextmanager
def _other_thread() -> Iterator[ThreadPoolExecutor]:
    """Yield an executor with one thread, which ends after the work of the block. The block's end does not wait."""
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="infrs-hash")
    try:
        yield pool
    finally:
        pool.shutdown(wait=False)


def _unreadable(path: Path, error: OSError) -> BundleError:
    return BundleError(
        f"{error.filename or path} cannot be read ({error.strerror}); give this account read permission, "
        "or export the model again"
    )


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | _OPEN_FLAGS)


def _lease(file: io.FileIO) -> bool:
    """Take a read lease on a file. Returns False where the system or the file's owner does not allow one."""
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    try:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(file, fcntl.F_SETOWN, 0)  # no signal to this process: by default, SIGIO ends it
    except OSError:
        return False
    return True
