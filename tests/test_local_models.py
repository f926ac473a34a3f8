"""Models on disk: names that are paths, and the cached bundle that was exported from one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hollow_bundles import publish

from infrs.bundle.local_models import RECORDS, find_exported, local_path, read_local, remember
from infrs.bundle.manifest import Dtype
from infrs.errors import SourceError


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here" / "folder").mkdir(parents=True)
    (tmp_path / "here" / "file.bin").touch()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("./folder", "here/folder"),
        ("./folder/", "here/folder"),
        ("folder", "here/folder"),
        ("../here/folder", "here/folder"),
        ("./absent", "here/absent"),
        (".", "here"),
        ("~/models/x", "home/models/x"),
        ("~", "home"),
        ("x.gguf", "here/x.gguf"),
        ("X.GGUF", "here/X.GGUF"),
        ("sub/x.Gguf", "here/sub/x.Gguf"),
        ("file.bin", "here/file.bin"),
        ("~nobody-here/x", "here/~nobody-here/x"),
        ("org/name", None),
        ("absent", None),
        ("demo/SmolLM2-135M-Instruct", None),
        ("org/name-GGUF", None),
        ("nul\0", None),
        ("x" * 5000, None),
    ],
)
def test_names_that_are_paths(tmp_path: Path, name: str, path: str | None) -> None:
    assert local_path(name) == (None if path is None else tmp_path / path)


def test_an_absolute_path_is_one(tmp_path: Path) -> None:
    assert local_path(str(tmp_path / "absent")) == tmp_path / "absent"


@pytest.mark.parametrize("name", ["absent", "absent.gguf", "file.bin", "dangling.gguf"])
def test_paths_without_a_model(tmp_path: Path, name: str) -> None:
    (tmp_path / "file.bin").touch()
    (tmp_path / "dangling.gguf").symlink_to("nowhere")
    with pytest.raises(SourceError, match=f"{name} is neither a model folder nor a .gguf file; check the path"):
        read_local(tmp_path / name)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "1_Pooling").mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "1_Pooling/config.json", "README.md"):
        (folder / name).write_text(name)
    return folder


def test_the_bundle_of_unchanged_files_is_found_by_dtype(tmp_path: Path, model: Path) -> None:
    cache = tmp_path / "cache"
    assert find_exported(cache, read_local(model), "auto") is None
    dtypes: tuple[Dtype, ...] = ("int4", "float32")
    bundles = {dtype: publish(cache, "name", dtype) for dtype in dtypes}
    for bundle in bundles.values():
        remember(cache, read_local(model), bundle)
    assert find_exported(cache, read_local(model), "int4") == bundles["int4"]
    assert find_exported(cache, read_local(model), "int8") is None
    assert find_exported(cache, read_local(model), "auto") == bundles["float32"]
    assert find_exported(cache, read_local(model / "1_Pooling"), "auto") is None


CHANGES: dict[str, tuple[bool, Callable[[Path], object]]] = {
    "weights": (True, lambda folder: (folder / "model.safetensors").write_text("other")),
    "same size": (True, lambda folder: os.utime(folder / "config.json", ns=(1, 1))),
    "new file": (True, lambda folder: (folder / "chat_template.jinja").touch()),
    "deleted file": (True, lambda folder: (folder / "config.json").unlink()),
    "renamed file": (True, lambda folder: (folder / "config.json").rename(folder / "other.json")),
    "file in a subfolder": (True, lambda folder: (folder / "1_Pooling" / "config.json").write_text("{}")),
    "file that no export reads": (False, lambda folder: (folder / "README.md").write_text("other")),
    "dangling link": (False, lambda folder: (folder / "x.json").symlink_to("nowhere")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_source_has_no_bundle(tmp_path: Path, model: Path, change: str) -> None:
    cache = tmp_path / "cache"
    bundle = publish(cache, "name", "int8")
    remember(cache, read_local(model), bundle)
    changes, make = CHANGES[change]
    make(model)
    assert find_exported(cache, read_local(model), "auto") == (None if changes else bundle)


@pytest.mark.parametrize(
    "damage",
    [
        lambda cache, record: record.write_text("{"),
        lambda cache, record: record.write_text(record.read_text().replace("name/int8-abc", "../name")),
        lambda cache, record: (cache / "name" / "int8-abc" / "manifest.json").unlink(),
    ],
    ids=["malformed record", "bundle outside the cache", "deleted bundle"],
)
def test_a_damaged_record_is_none(tmp_path: Path, model: Path, damage: Callable[[Path, Path], object]) -> None:
    cache = tmp_path / "cache"
    remember(cache, read_local(model), publish(cache, "name", "int8"))
    [record] = (cache / RECORDS).iterdir()
    damage(cache, record)
    assert find_exported(cache, read_local(model), "auto") is None


def test_a_single_file_is_a_model(tmp_path: Path) -> None:
    cache, file = tmp_path / "cache", tmp_path / "X.GGUF"
    file.write_bytes(b"1")
    bundle = publish(cache, "name", "int8")
    remember(cache, read_local(file), bundle)
    (tmp_path / "neighbour.gguf").touch()
    assert find_exported(cache, read_local(file), "auto") == bundle
    file.write_bytes(b"22")
    assert find_exported(cache, read_local(file), "auto") is None
