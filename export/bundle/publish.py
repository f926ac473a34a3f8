"""Publish a bundle atomically: stage it in the same cache, make it durable, rename it. The server sees whole bundles.

Layout of the cache: `<slug>/<dtype>-<key>/` bundles, `.sources/` (`infrs.bundle.local_models`), `.locks/<name>.lock`
(never deleted: unlinking a held lock lets two in), `.tmp/<name>/` staging areas, where `<name>` is
`<slug>--<dtype>-<key>`. A staging area belongs to the holder of the lock of its name. If that lock is free,
its export died and the area can be removed.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from infrs.bundle.manifest import MANIFEST_FILE, AnyManifest, Dtype, FileEntry, sha256_file, slug
from infrs.errors import DiskFullError, ExportError

LOCKS, STAGING = ".locks", ".tmp"
_MARGIN = 64 << 20


class Place:
    """The paths of one bundle in a cache: final and staging."""

    def __init__(self, cache: Path, model_id: str, dtype: Dtype, key: str) -> None:
        self.cache = cache
        self.final = cache / slug(model_id) / f"{dtype}-{key}"
        self.name = f"{slug(model_id)}--{dtype}-{key}"

    @property
    def staging(self) -> Path:
        """Return the path of the new bundle until it is published."""
        return self.cache / STAGING / self.name / "new"

    @property
    def replaced(self) -> Path:
        """Return the path of a replaced bundle until it is deleted."""
        return self.cache / STAGING / self.name / "old"


@contextmanager
def staging(place: Place, waiting: Callable[[], None]) -> Iterator[Path]:
    """Hold the lock of `place` and yield an empty staging directory; release both afterwards.

    `waiting` is called once if another process holds the lock. Raises DiskFullError if the disk is full, ExportError if
    the cache cannot be written or locked.
    """
    with full_disk_explained(place.cache):
        lock = _lock(place.cache, place.name)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waiting()
            lock.acquire()
        area = place.staging.parent
        try:
            shutil.rmtree(area, ignore_errors=True)
            _sweep(place.cache)
            place.staging.mkdir(parents=True)
            yield place.staging
        finally:
            shutil.rmtree(area, ignore_errors=True)
            lock.release()


def publish(place: Place, manifest: AnyManifest) -> Path:
    """Write the manifest, make all files durable and rename the staged bundle to its final path."""
    staged = place.staging
    (staged / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2) + "\n")
    for path in staged.iterdir():
        _sync(path)
    _sync(staged)
    place.final.parent.mkdir(parents=True, exist_ok=True)
    if place.final.exists():  # a forced export, or a damaged bundle
        place.final.rename(place.replaced)
    staged.rename(place.final)
    _sync(place.final.parent)
    _sync(place.cache)
    return place.final


def file_entries(directory: Path) -> dict[str, FileEntry]:
    """Return size and SHA-256 of every file, by name."""
    return {
        path.name: FileEntry(size=path.stat().st_size, sha256=sha256_file(path)) for path in sorted(directory.iterdir())
    }


def check_space(cache: Path, needed: int) -> None:
    """Raise DiskFullError if the file system of `cache` has fewer than `needed` bytes and a margin free."""
    free = shutil.disk_usage(cache).free
    if free < needed + _MARGIN:
        raise DiskFullError(
            f"{cache} has {free / 1e9:.1f} GB free and the bundle needs about {(needed + _MARGIN) / 1e9:.1f} GB; "
            "free some space or choose another --output"
        )


@contextmanager
def full_disk_explained(cache: Path) -> Iterator[None]:
    """Convert errors of a full or unwritable disk to DiskFullError and ExportError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(cache).free if cache.exists() else 0
            raise DiskFullError(
                f"the disk of {cache} is full ({free} bytes free); nothing was published. Free some space and try again"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ENOTDIR, errno.ENAMETOOLONG):
            raise ExportError(
                f"{error.filename or cache} cannot be written ({error.strerror}); choose another --output"
            ) from error
        raise


def _lock(cache: Path, name: str) -> FileLock:
    (cache / LOCKS).mkdir(parents=True, exist_ok=True)
    return FileLock(cache / LOCKS / f"{name}.lock")


def _sweep(cache: Path) -> None:
    """Remove the staging areas of exporters that died."""
    for area in (cache / STAGING).glob("*"):
        lock = _lock(cache, area.name)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        try:
            shutil.rmtree(area, ignore_errors=True)
        finally:
            lock.release()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
