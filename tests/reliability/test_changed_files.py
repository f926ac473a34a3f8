"""A program that writes to the files of a loaded bundle waits, is reported, and changes no answer."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import synthetic

from infrs.bundle.files import BundleFile, BundleFiles, open_files
from infrs.bundle.manifest import MANIFEST_FILE, AnyManifest, FileEntry, read_manifest, sha256_file
from infrs.config.settings import EngineSettings, ModelSettings
from infrs.errors import BundleError
from infrs.models.load import load_model, load_verified

GRAPH, WEIGHTS = "model.onnx", "model.onnx.data"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "float32-0"
    folder.mkdir()
    synthetic.build(folder / GRAPH, "fused")
    (folder / WEIGHTS).write_bytes(bytes(10_000))
    entries = {
        name: FileEntry(size=(folder / name).stat().st_size, sha256=sha256_file(folder / name))
        for name in (GRAPH, WEIGHTS)
    }
    manifest = synthetic.manifest().model_copy(update={"files": entries, "graph_file": GRAPH})
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json())
    return folder


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def overwrite(path: Path) -> None:
    """Change the content and keep the size."""
    with path.open("r+b") as file:
        file.write(b"x")


def truncate(path: Path) -> None:
    os.truncate(path, 0)


WRITE = {"truncate": "import os; os.truncate({path!r}, 0)", "overwrite": "open({path!r}, 'r+b').write(b'x')"}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no leases")
@pytest.mark.parametrize("how", WRITE)
def test_writer_waits_until_the_files_are_closed(bundle: Path, how: str) -> None:
    path = bundle / WEIGHTS
    files = open_files(bundle)
    assert files.disturbed() is None
    with subprocess.Popen([sys.executable, "-c", WRITE[how].format(path=str(path))]) as writer:
        wait_until(files.disturbed)
        assert files.disturbed() == path
        assert writer.poll() is None
        assert path.read_bytes() == bytes(10_000)
        files.close()
        assert writer.wait(30) == 0
    assert path.read_bytes() != bytes(10_000)


@pytest.mark.parametrize("change", [overwrite, truncate])
def test_change_is_noticed_where_files_have_no_lease(bundle: Path, change: Callable[[Path], None]) -> None:
    with (bundle / WEIGHTS).open("r+b"):  # a file that is open for writing gets no lease
        files = open_files(bundle)
    change(bundle / WEIGHTS)
    assert files.disturbed() == bundle / WEIGHTS
    files.close()
    assert files.disturbed() is None


def test_a_file_that_another_thread_closes_is_not_disturbed(bundle: Path) -> None:
    file = BundleFile(bundle / WEIGHTS)
    file.close()
    assert not file.is_disturbed


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no leases")
@pytest.mark.parametrize("lease", [True, False])
def test_files_without_a_lease_are_reported_at_start(
    bundle: Path, lease: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        (bundle / GRAPH).open("rb" if lease else "r+b"),
        caplog.at_level(logging.WARNING, "infrs.server"),
        pytest.raises(BundleError, match=r"tokenizer\.json cannot be read"),
    ):
        load_model(bundle, ModelSettings(), EngineSettings())
    assert caplog.text.count(f"{bundle / GRAPH} cannot have a lease") == (0 if lease else 1)


def replace(bundle: Path) -> None:
    shutil.copy(bundle / WEIGHTS, bundle / "new")
    (bundle / "new").replace(bundle / WEIGHTS)


def remove(bundle: Path) -> None:
    (bundle / WEIGHTS).unlink()


@pytest.mark.parametrize("change", [replace, remove])
def test_another_file_under_the_name_does_not_disturb_a_loaded_model(
    bundle: Path, change: Callable[[Path], None]
) -> None:
    files = open_files(bundle)
    files.confirm()
    change(bundle)
    assert files.disturbed() is None
    with pytest.raises(BundleError, match="was changed while the model was loaded; start again"):
        files.confirm()
    files.close()


def test_model_is_refused_if_its_files_change_while_it_loads(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load_slowly(manifest: AnyManifest) -> Any:
        replace(bundle)

    closed: list[BundleFiles] = []
    close = BundleFiles.close
    monkeypatch.setattr(BundleFiles, "close", lambda files: closed.append(files) or close(files))
    with pytest.raises(BundleError, match=f"{WEIGHTS} was changed"):
        load_verified(bundle, load_slowly)
    assert len(closed) == 1


@pytest.mark.parametrize("error", [None, ValueError("a scale that is not finite")])
def test_damaged_weights_are_reported_by_their_hash(bundle: Path, error: Exception | None) -> None:
    overwrite(bundle / WEIGHTS)

    def load(manifest: AnyManifest) -> Any:
        if error is not None:
            raise error

    with pytest.raises(BundleError, match=rf"{WEIGHTS} does not match its SHA-256; export the model again"):
        load_verified(bundle, load)


def test_a_stopped_hash_reads_no_further(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    file = BundleFile(bundle / WEIGHTS)
    file.stop()
    with pytest.raises(BundleError, match="does not match"):
        file.check_hash(manifest.files[WEIGHTS])
    file.close()
