"""Models from a Hub: what is fetched, by which commit, and what is said when it cannot be."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from embedding_models import make_embedding_model, write
from fake_hub import COMMIT, Hub, serve
from hub_export import MODEL, TOKEN, fetched, refused, run_export, with_password

from infrs.bundle.files import verify_bundle
from infrs.bundle.manifest import Sampling, find_bundle, read_manifest


@pytest.fixture
def hub(tiny_copy: Callable[[str], Path]) -> Iterator[Hub]:
    folder = tiny_copy("hub")
    for name in ("pytorch_model.bin", "modeling_tiny.py", "README.md", "consolidated.safetensors"):
        (folder / name).write_text("not to be fetched")
    with serve(Hub(MODEL, folder)) as running:
        yield running


@pytest.fixture
def export(hub: Hub, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    return partial(run_export, hub.url, tmp_path)


Run = Callable[..., subprocess.CompletedProcess[str]]


def test_export_by_commit_of_allowed_files_only_and_again_offline(hub: Hub, export: Run, tmp_path: Path) -> None:
    done = export(HUGGING_FACE_HUB_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    bundle = find_bundle(tmp_path / "cache", MODEL, "main", "auto")
    manifest = verify_bundle(bundle)
    assert (manifest.source.kind, manifest.source.model_id, manifest.source.commit) == ("hub", MODEL, COMMIT)
    assert find_bundle(tmp_path / "cache", MODEL, COMMIT, "auto") == bundle
    assert manifest.sampling == Sampling(temperature=0.6, top_k=20)
    assert manifest.source.host == hub.url.removeprefix("http://")
    assert TOKEN not in (bundle / "manifest.json").read_text()
    assert hub.requested() <= {path.name for path in hub.folder.iterdir()} - {
        "pytorch_model.bin",
        "modeling_tiny.py",
        "README.md",
        "consolidated.safetensors",
    }
    assert {header for _, _, header in hub.log} == {f"Bearer {TOKEN}"}
    fields = json.loads((bundle / "manifest.json").read_text())
    del fields["source"]["host"], fields["sampling"]  # as in bundles made before they were noted
    (bundle / "manifest.json").write_text(json.dumps(fields))
    assert (verify_bundle(bundle).source.host, verify_bundle(bundle).sampling) == (None, Sampling())
    hub.log.clear()
    again = export(HF_HUB_OFFLINE="1")
    assert again.returncode == 0, again.stderr
    assert "Already exported" in again.stdout
    assert hub.log == []


def test_an_embedding_model_comes_with_the_files_of_its_modules(hub: Hub, export: Run, tmp_path: Path) -> None:
    shutil.rmtree(hub.folder)
    make_embedding_model(hub.folder, dense=24)
    write(hub.folder / "onnx" / "config.json", {})
    (hub.folder / "2_Dense" / "pytorch_model.bin").write_text("not to be fetched")
    done = export()
    assert done.returncode == 0, done.stderr
    manifest = verify_bundle(find_bundle(tmp_path / "cache", MODEL, "main", "float32"))
    assert (manifest.kind, manifest.dimensions) == ("embedding", 24)
    assert {"modules.json", "1_Pooling/config.json", "2_Dense/model.safetensors"} <= hub.requested()
    assert not {"onnx/config.json", "2_Dense/pytorch_model.bin"} & hub.requested()


def test_download_progress_is_reported_once(hub: Hub, tmp_path: Path) -> None:
    said = fetched(hub.url, tmp_path).splitlines()
    asked = f"asking {hub.url.removeprefix('http://')} for {MODEL}"
    assert said[:2] == [asked, f"fetching {MODEL}"]
    assert (said[2], said[-1]) == ("fetch 0 1", "fetch 1 1")  # megabytes
    assert fetched(hub.url, tmp_path).splitlines() == [asked, f"fetching {MODEL}"]


def test_offline_without_the_files(hub: Hub, export: Run) -> None:
    refused(export(HF_HUB_OFFLINE="1"), "HF_HUB_OFFLINE", "run the same command once without it")
    assert hub.log == []


def test_unreachable_hub(export: Run) -> None:
    refused(export(HF_ENDPOINT=with_password("http://127.0.0.1:9")), "http://127.0.0.1:9", "cannot be reached")


def test_unknown_revision(export: Run) -> None:
    refused(export("--revision", "no-such-branch"), "no revision 'no-such-branch'", "--revision")


ANSWERS = {
    "absent": (404, {"X-Error-Code": "RepoNotFound"}, ("no model tests/tiny-llama", "HF_TOKEN")),
    "gated": (403, {"X-Error-Code": "GatedRepo"}, ("gated", "accept its licence at", "HF_TOKEN")),
    "forbidden": (403, {}, ("may not read",)),
    "token": (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, ("token", "HF_TOKEN")),
    "busy": (429, {"Retry-After": "900"}, ("again in 900 seconds",)),
    "broken": (500, {}, ("answered 500",)),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_refusals_by_the_hub(hub: Hub, export: Run, name: str) -> None:
    status, headers, words = ANSWERS[name]
    hub.errors["/api/models/"] = (status, headers, "{}")
    refused(export(HF_TOKEN=TOKEN, HF_ENDPOINT=with_password(hub.url)), *words)


def test_pickles_are_refused_before_anything_is_fetched(hub: Hub, export: Run) -> None:
    for path in hub.folder.glob("*.safetensors"):
        path.unlink()
    refused(export(), "no safetensors", "pickle")
    assert hub.requested() == set()


def test_remote_code_is_refused_before_the_weights_are_fetched(hub: Hub, export: Run) -> None:
    config = json.loads((hub.folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_tiny.TinyForCausalLM"}
    (hub.folder / "config.json").write_text(json.dumps(config))
    refused(export(), "auto_map", "never runs")
    assert "model.safetensors" not in hub.requested()


def test_a_new_commit_is_another_bundle(hub: Hub, export: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert export().returncode == 0
    newer = "beef" * 10
    monkeypatch.setattr("fake_hub.COMMIT", newer)
    assert export().returncode == 0
    commits = {read_manifest(path).source.commit for path in (tmp_path / "cache" / "tests--tiny-llama").iterdir()}
    assert commits == {COMMIT, newer}
