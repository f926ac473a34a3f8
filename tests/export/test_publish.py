"""What the server can see of a cache is whole bundles, whatever happens to the exporters."""

from __future__ import annotations

import errno
import os
import random
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from infrs_export.bundle import publish as publishing
from infrs_export.bundle.publish import Place, check_space, full_disk_explained, staging
from infrs_export.graph.tensor_file import TensorFile
from infrs_export.pipeline import export_model

from infrs.bundle.files import verify_bundle
from infrs.bundle.manifest import find_bundle, read_manifest
from infrs.errors import BundleError, BundleNotFoundError, DiskFullError, ExportError

PLACE = ("org/model", "float32", "0123456789ab")


def unexpected() -> None:
    raise AssertionError("nobody else holds the lock")


def command(folder: Path, cache: Path, *options: str) -> list[str]:
    code = "from infrs_export.entry import main; main()"
    return [sys.executable, "-c", code, str(folder), "--output", str(cache), *options]


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


def visible(cache: Path) -> list[Path]:
    """Directories that the server would take for bundles; each must be whole."""
    found = []
    for path in cache.glob("[!.]*/*"):
        try:
            read_manifest(path)
        except BundleError:
            continue
        verify_bundle(path)
        found.append(path)
    return found


def test_staging_is_empty_and_gone_afterwards(tmp_path: Path) -> None:
    place = Place(tmp_path, *PLACE)
    place.staging.mkdir(parents=True)
    (place.staging / "left over").touch()
    with staging(place, unexpected) as directory:
        assert list(directory.iterdir()) == []
        assert directory.stat().st_dev == tmp_path.stat().st_dev
    assert list((tmp_path / ".tmp").iterdir()) == []


def test_staging_areas_of_dead_exporters_are_removed(tmp_path: Path) -> None:
    dead = Place(tmp_path, "org/dead", "int8", "0" * 12)
    dead.staging.mkdir(parents=True)
    living = Place(tmp_path, "org/living", "int8", "1" * 12)
    with staging(living, unexpected) as directory, staging(Place(tmp_path, *PLACE), unexpected):
        assert directory.is_dir()
        assert not dead.staging.parent.exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_explained_and_leaves_nothing(tmp_path: Path, number: int) -> None:
    def write() -> None:
        with staging(Place(tmp_path, *PLACE), unexpected) as directory:
            (directory / "model.onnx").write_bytes(b"half")
            raise OSError(number, os.strerror(number))

    with pytest.raises(DiskFullError, match="free"):
        write()
    assert list((tmp_path / ".tmp").iterdir()) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EIO])
def test_an_unwritable_cache_is_explained(tmp_path: Path, number: int) -> None:
    with pytest.raises(ExportError, match="cannot be written"), full_disk_explained(tmp_path):
        raise OSError(number, os.strerror(number))


def test_preflight_counts_free_space(tmp_path: Path) -> None:
    check_space(tmp_path, 1)
    with pytest.raises(DiskFullError, match="needs about"):
        check_space(tmp_path, 1 << 60)


def test_disk_full_at_any_write_publishes_nothing(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The n-th tensor finds the disk full, for every n."""
    writes, add = [0, 0], TensorFile.add

    def failing(self: TensorFile, name: str, array: object) -> object:
        writes[0] += 1
        if writes[0] == writes[1]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return add(self, name, array)

    monkeypatch.setattr(TensorFile, "add", failing)
    for writes[1] in (1, 2, 9):
        writes[0] = 0
        with pytest.raises(DiskFullError):
            export_model(str(tiny_folder), output=tmp_path, progress=False)
        assert visible(tmp_path) == []
        assert list((tmp_path / ".tmp").iterdir()) == []
    writes[:] = [0, 0]
    verify_bundle(export_model(str(tiny_folder), output=tmp_path, progress=False))


def test_disk_full_inside_the_tracer_is_no_fault_of_the_model(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "config.json"))

    monkeypatch.setattr("infrs_export.graph.optimum_export.onnx_export_from_model", full)
    with pytest.raises(DiskFullError, match="Free some space"):
        export_model(str(tiny_folder), output=tmp_path, progress=False)
    assert visible(tmp_path) == []


@pytest.mark.slow
@pytest.mark.nightly("kill -9 while exporting")
def test_a_killed_export_leaves_nothing_to_serve(
    tiny_folder: Path, tmp_path: Path, full: bool, figure: Callable[[str], None]
) -> None:
    """`kill -9` at several moments of the export; the next export succeeds and cleans up."""
    pauses = [random.uniform(0, 2.5) for _ in range(100)] if full else [0.0, 0.4, 1.0, 1.6]
    for pause in pauses:
        process = subprocess.Popen(
            command(tiny_folder, tmp_path, "--quiet"), stdout=subprocess.DEVNULL, env=environment()
        )
        while process.poll() is None and not list((tmp_path / ".tmp").glob("*/new/*")):
            time.sleep(0.02)
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.wait()
        published = visible(tmp_path)
        if not published:
            with pytest.raises(BundleNotFoundError):
                find_bundle(tmp_path, "tiny-llama", "main", "float32")
    bundle = export_model(str(tiny_folder), output=tmp_path, progress=False, force=True)
    verify_bundle(bundle)
    assert visible(tmp_path) == [bundle]
    assert list((tmp_path / ".tmp").iterdir()) == []
    figure(f"{len(pauses)} kills: 0 half bundles, nothing left behind")


@pytest.mark.parametrize("last", ["file", "staging", "old"])
def test_a_kill_while_publishing_leaves_whole_bundles(tiny_folder: Path, tmp_path: Path, last: str) -> None:
    """The process dies at a chosen step of the publication itself, of a bundle that replaces another."""
    before = export_model(str(tiny_folder), output=tmp_path, progress=False)
    kill, is_folder = "os.kill(os.getpid(), 9)", "S_ISDIR(os.fstat(file).st_mode)"
    patches = {
        "file": f"os.fsync = lambda file: {kill}",
        "staging": f"sync = os.fsync; os.fsync = lambda file: {kill} if {is_folder} else sync(file)",
        "old": f"Path.rename = lambda self, target: ({kill}) if self.name == 'new' else os.rename(self, target)",
    }
    code = (
        "import os; from pathlib import Path; from stat import S_ISDIR\n"
        f"{patches[last]}\n"
        "from infrs_export.pipeline import export_model\n"
        f"export_model({str(tiny_folder)!r}, output=Path({str(tmp_path)!r}), progress=False, force=True)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), check=False)
    assert done.returncode == -signal.SIGKILL
    assert visible(tmp_path) == ([] if last == "old" else [before])
    verify_bundle(export_model(str(tiny_folder), output=tmp_path, progress=False, force=True))
    assert list((tmp_path / ".tmp").iterdir()) == []


@pytest.mark.slow
@pytest.mark.nightly("exporters in parallel")
def test_parallel_exporters_export_once(
    tiny_folder: Path, tmp_path: Path, full: bool, figure: Callable[[str], None]
) -> None:
    count = 8 if full else 3
    processes = [
        subprocess.Popen(
            command(tiny_folder, tmp_path), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment()
        )
        for _ in range(count)
    ]
    reports = [process.communicate()[0].decode() for process in processes]
    assert [process.returncode for process in processes] == [0] * count
    assert sum("peak memory" in report for report in reports) == 1
    assert len(visible(tmp_path)) == 1
    figure(f"{count} succeed, 1 exports")


@pytest.mark.parametrize("folder", ["a cache é ✓ 'quoted'", "/".join(["x" * 120] * 3)], ids=["odd", "long"])
def test_odd_caches(tiny_folder: Path, tmp_path: Path, folder: str) -> None:
    verify_bundle(export_model(str(tiny_folder), output=tmp_path / folder, progress=False))


def test_a_cache_on_another_file_system(tiny_folder: Path, tmp_path: Path) -> None:
    """A cache on another file system (/dev/shm); staging and bundle share one, or the rename would fail."""
    shared = Path("/dev/shm")  # noqa: S108
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else tmp_path) as folder:
        verify_bundle(export_model(str(tiny_folder), output=Path(folder) / "cache", progress=False))


@pytest.mark.parametrize("folder", ["x" * 300, "file/cache"], ids=["too long", "below a file"])
def test_impossible_caches_are_explained(tiny_folder: Path, tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match="choose another --output"):
        export_model(str(tiny_folder), output=tmp_path / folder, progress=False)


def test_others_may_read_a_bundle_and_not_change_it(tiny_folder: Path, tmp_path: Path) -> None:
    """Another user's server needs no more than these modes."""
    before = os.umask(0o022)
    try:
        bundle = export_model(str(tiny_folder), output=tmp_path / "cache", progress=False)
    finally:
        os.umask(before)
    folders = {path: stat.S_IMODE(path.stat().st_mode) for path in (bundle, bundle.parent, tmp_path / "cache")}
    assert set(folders.values()) == {0o755}, folders
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in bundle.iterdir()} == {
        path.name: 0o644 for path in bundle.iterdir()
    }


def test_the_lock_survives_so_that_two_never_hold_it(tmp_path: Path) -> None:
    place = Place(tmp_path, *PLACE)
    with staging(place, unexpected):
        held = (tmp_path / publishing.LOCKS / f"{place.name}.lock").stat().st_ino
    with staging(place, unexpected):
        assert (tmp_path / publishing.LOCKS / f"{place.name}.lock").stat().st_ino == held
