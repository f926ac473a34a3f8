"""A damaged bundle, or one that refers outside its folder, is refused in one line and never served."""

from __future__ import annotations

import errno
import io
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import onnx
import pytest
import synthetic
from fake_process import SLACK
from onnx import external_data_helper, numpy_helper

from infrs.bundle.files import verify_bundle
from infrs.bundle.manifest import MANIFEST_FILE, FileEntry, find_bundle, sha256_file
from infrs.engine.runners.opening import open_runner
from infrs.engine.runners.runner import Rows
from infrs.errors import BundleError

GRAPH = "model.onnx"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that is as its manifest says."""
    folder = tmp_path_factory.mktemp("cache") / "tests--tiny" / "float32-0"
    folder.mkdir(parents=True)
    synthetic.build(folder / GRAPH, "fused")
    (folder / "tokenizer.json").write_text("{}")
    write_manifest(folder)
    verify_bundle(folder)
    return folder


def write_manifest(folder: Path) -> None:
    names = sorted(path.name for path in folder.iterdir() if path.name != MANIFEST_FILE)
    files = {name: FileEntry(size=(folder / name).stat().st_size, sha256=sha256_file(folder / name)) for name in names}
    manifest = synthetic.manifest().model_copy(update={"files": files, "graph_file": GRAPH})
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json())


@pytest.fixture
def bundle(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "float32-0"))


def refused(bundle: Path) -> str:
    """The one line that says why, found soon."""
    started = time.monotonic()
    with pytest.raises(BundleError) as caught:
        verify_bundle(bundle)
    assert time.monotonic() - started < 2 + SLACK
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.nightly("damaged bundles")
def test_a_missing_or_changed_byte_is_refused(bundle: Path, full: bool, figure: Callable[[str], None]) -> None:
    cuts, flips = (100, 1000) if full else (20, 100)
    for name in (GRAPH, MANIFEST_FILE):
        path = bundle / name
        data = path.read_bytes()
        for _ in range(cuts):
            path.write_bytes(data[: random.randrange(len(data))])
            refused(bundle)
        if name == GRAPH:  # a manifest may be spelt differently and say the same
            for _ in range(flips):
                place, bit = random.randrange(len(data)), 1 << random.randrange(8)
                path.write_bytes(data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :])
                refused(bundle)
        path.write_bytes(data)
        verify_bundle(bundle)
    figure(f"{2 * cuts} truncations and {flips} flipped bits: all refused")


@pytest.mark.parametrize("name", [GRAPH, MANIFEST_FILE])
@pytest.mark.parametrize("kind", ["missing", "empty", "folder", "pipe", "link", "dangling", "device"])
def test_a_path_that_is_not_a_plain_file_is_refused(bundle: Path, name: str, kind: str, whole: Path) -> None:
    """Reading a pipe never ends. A hard link is the file itself, so its hash is sufficient."""
    path = bundle / name
    path.unlink()
    match kind:
        case "empty":
            path.touch()
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "link":
            path.symlink_to(whole / name)
        case "dangling":
            path.symlink_to(bundle / "nowhere")
        case "device":
            path.symlink_to("/dev/zero")
    assert str(path) in refused(bundle)
    if name == MANIFEST_FILE:
        with pytest.raises(BundleError):
            find_bundle(bundle.parent, "tests/tiny", "main", "float32")


@pytest.mark.parametrize("name", [GRAPH, MANIFEST_FILE])
def test_an_unreadable_file_is_refused(bundle: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read any file, so the test makes `open` refuse."""

    def refuse(module: ModuleType) -> None:
        opened = module.open

        def refusing(path: object, *arguments: object, **named: object) -> object:
            if str(path) == str(bundle / name):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return opened(path, *arguments, **named)

        monkeypatch.setattr(module, "open", refusing)

    refuse(io)  # of Path
    refuse(os)  # of BundleFile
    assert str(bundle / name) in refused(bundle)
    assert "Permission denied" in refused(bundle)


def test_a_hard_link_is_accepted(bundle: Path, whole: Path) -> None:
    (bundle / GRAPH).unlink()
    (bundle / GRAPH).hardlink_to(whole / GRAPH)
    verify_bundle(bundle)


def put_outside(bundle: Path, location: str, offset: int = 0, length: int = 0) -> None:
    """Have the graph's constants read from elsewhere; a length of 0 is the right one."""
    model, data = onnx.load(bundle / GRAPH), b""
    weights = [tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    for tensor in weights:  # whole numbers are shapes, which must be in the graph
        tensor.raw_data = numpy_helper.to_array(tensor).tobytes()
        piece = tensor.raw_data
        external_data_helper.set_external_data(tensor, location, offset + len(data), length or len(piece))
        tensor.ClearField("raw_data")
        del tensor.float_data[:]
        data += piece
    for place in (bundle / "secret", bundle.parent / "secret"):
        place.write_bytes(data)
    (bundle / "linked").symlink_to(bundle.parent / "secret")
    (bundle / GRAPH).write_bytes(model.SerializeToString())


def open_graph(bundle: Path) -> None:
    open_runner(bundle, synthetic.manifest(), Rows(1, 16), threads=1)


@pytest.mark.parametrize(
    ("location", "offset", "length"),
    [
        ("../secret", 0, 0),
        ("sub/../../secret", 0, 0),
        ("/etc/passwd", 0, 0),
        ("linked", 0, 0),
        ("secret", 0, 1 << 40),
        ("secret", 1 << 40, 0),
        ("secret", -8, 0),
        ("secret", -(1 << 40), 0),
        ("secret", 0, -8),
    ],
)
def test_data_outside_the_bundle_is_refused(bundle: Path, location: str, offset: int, length: int) -> None:
    """Even if the manifest has matching hashes, because one author made both."""
    put_outside(bundle, location, offset, length)
    with pytest.raises(BundleError) as caught:
        open_graph(bundle)
    assert "\n" not in str(caught.value)
    assert "root:" not in str(caught.value)


def test_data_inside_the_bundle_is_accepted(bundle: Path) -> None:
    """The graph of the test above opens if its data is inside the bundle."""
    put_outside(bundle, "secret")
    open_graph(bundle)


def test_the_command_ends_with_the_bundles_exit_code(bundle: Path) -> None:
    """The server answers no request before that, because it waits for the model."""
    (bundle / GRAPH).write_bytes((bundle / GRAPH).read_bytes()[:-1])
    command = [sys.executable, "-m", "infrs", "--bundle", str(bundle), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == BundleError.exit_code
    assert "Traceback" not in done.stderr
    assert json.dumps(str(bundle))[1:-1] in done.stderr
