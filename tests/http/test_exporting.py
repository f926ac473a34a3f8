"""A missing bundle is exported in a separate process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hollow_bundles import publish

from infrs.cli.export_missing import Exporter, find_or_export
from infrs.config.settings import ModelSettings
from infrs.errors import BundleNotFoundError, ConfigError, InfrsError, SourceError

EXPORT = f"""
import os, pathlib, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from hollow_bundles import publish
for_server, model, *rest = sys.argv[1:]
assert for_server == "--for-server", for_server
options = dict(zip(rest[::2], rest[1::2]))
assert options == {{"--revision": "v1", "--dtype": "int4", "--output": options["--output"]}}, options
assert os.environ.get("HF_TOKEN") == "old name", os.environ.get("HF_TOKEN")
publish(pathlib.Path(options["--output"]), model, "int4", revision="v1")
"""

NOT_INSTALLED = Exporter("", ("no_such_module",))


@pytest.fixture
def settings(tmp_path: Path) -> ModelSettings:
    return ModelSettings(model_id="org/name", revision="v1", dtype="int4", cache_dir=tmp_path)


def test_a_missing_bundle_is_exported_and_found(
    settings: ModelSettings,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", "old name")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with caplog.at_level("INFO"):
        bundle = find_or_export(settings, Exporter(EXPORT, ()))
    assert caplog.messages == [f"no int4 bundle of org/name at revision v1 in {settings.cache_dir}; exporting it"]
    assert capfd.readouterr().err == ""
    assert bundle == settings.cache_dir / "org--name" / "int4-abc"
    assert find_or_export(settings, Exporter("raise SystemExit(9)", ())) == bundle


def test_other_bundles_of_the_model_in_the_cache_are_listed(settings: ModelSettings) -> None:
    publish(settings.cache_dir, "org/name", "int4", revision="v1")
    publish(settings.cache_dir / ".tmp", "org/nam", "int4", revision="v1")
    for update in ({"dtype": "int8"}, {"revision": "main"}, {"model_id": "org/nam"}):
        with pytest.raises(BundleNotFoundError, match=r" \(there is org/name in int4 at revision v1\); run: "):
            find_or_export(settings.model_copy(update=update), NOT_INSTALLED)
    with pytest.raises(BundleNotFoundError, match=r"^no int4 bundle of a/b at revision v1 in [^(]*; run: "):
        find_or_export(settings.model_copy(update={"model_id": "a/b"}), NOT_INSTALLED)


def test_a_failed_export_gives_its_exit_code(settings: ModelSettings) -> None:
    with pytest.raises(SystemExit) as caught:
        find_or_export(settings, Exporter("raise SystemExit(5)", ()))
    assert caught.value.code == 5


def test_an_export_of_something_else_is_not_served(settings: ModelSettings) -> None:
    with pytest.raises(BundleNotFoundError):
        find_or_export(settings, Exporter("", ()))


EXPORT_FILE = f"""
import pathlib, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from hollow_bundles import publish
from infrs.bundle.local_models import local_path, read_local, remember
_, model, *rest = sys.argv[1:]
cache = pathlib.Path(dict(zip(rest[::2], rest[1::2]))["--output"])
remember(cache, read_local(local_path(model)), publish(cache, "tiny", "int8", kind="gguf"))
print("exported", model, *rest[:4])
"""


@pytest.mark.parametrize("other", ["./tiny.gguf", "../{here}/tiny.gguf", "{path}", "~/tiny.gguf"])
def test_a_path_is_exported_once_and_again_when_its_file_changes(
    other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    exporter = Exporter(EXPORT_FILE, ())
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    file, exported = tmp_path / "tiny.gguf", ["exported", "tiny.gguf", "--revision", "main", "--dtype", "auto"]
    file.write_bytes(b"1")
    first = ModelSettings(model_id="tiny.gguf", cache_dir=tmp_path / "cache")
    second = ModelSettings(model_id=other.format(here=tmp_path.name, path=file), cache_dir=tmp_path / "cache")
    bundle = find_or_export(first, exporter)
    assert capfd.readouterr().out.split() == exported
    assert find_or_export(second, exporter) == bundle == tmp_path / "cache" / "tiny" / "int8-abc"
    assert find_or_export(second.model_copy(update={"model_id": "tiny"}), exporter) == bundle
    assert capfd.readouterr().out == ""
    file.write_bytes(b"22")
    assert find_or_export(first, exporter) == bundle
    assert capfd.readouterr().out.split() == exported


def test_a_path_that_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    bundle, file = publish(tmp_path, "a/b", "int8"), tmp_path / "X.GGUF"
    file.touch()
    refused: list[tuple[Path, type[InfrsError], str]] = [
        (tmp_path / "absent", SourceError, "absent is neither a model folder nor a .gguf file; check the path"),
        (bundle, ConfigError, "is an exported bundle; serve it with --bundle"),
        (
            file,
            BundleNotFoundError,
            r"no up-to-date bundle of .*X\.GGUF in .*pip install .*\[export,demo\].* && infrs-export",
        ),
    ]
    for path, error, words in refused:
        with pytest.raises(error, match=words):
            find_or_export(ModelSettings(model_id=str(path), cache_dir=tmp_path / "cache"), NOT_INSTALLED)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_server_ends_its_export(number: signal.Signals, tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from infrs.cli.export_missing import Exporter, find_or_export
from infrs.config.settings import ModelSettings
exporter = Exporter("import os, time; print(os.getpid(), flush=True); time.sleep(60)", ())
find_or_export(ModelSettings(cache_dir=Path({str(tmp_path)!r})), exporter)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        export = int(process.stdout.readline())
        started = time.monotonic()
        process.send_signal(number)
        assert process.wait(10) == 128 + number
        assert time.monotonic() - started < 5
        with pytest.raises(ProcessLookupError):
            os.kill(export, 0)
