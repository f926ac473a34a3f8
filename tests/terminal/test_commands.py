"""`infrs models`, `infrs doctor`, completion, and the group that holds all commands."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from infrs.bundle.manifest import slug
from infrs.cli.command import run
from infrs.config.settings import EngineSettings, ModelSettings, ServerSettings, Settings
from infrs.errors import without_password
from infrs.terminal import checks
from infrs.terminal.checks import Level
from infrs.terminal.doctor import doctor
from infrs.terminal.group import group
from infrs.terminal.models import models

sys.path.append(str(Path(__file__).parents[1]))
from manifests import chat_manifest


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Return a cache with one model in two dtypes, and another."""
    for model_id, dtype in (("a/one", "int8"), ("a/one", "int4"), ("b/two", "int8")):
        bundle = tmp_path / slug(model_id) / f"{dtype}-0123456789ab"
        bundle.mkdir(parents=True)
        (bundle / "manifest.json").write_text(chat_manifest(model_id, dtype=dtype).model_dump_json())
    return tmp_path


def test_models_lists_the_cache(cache: Path) -> None:
    listed = json.loads(CliRunner().invoke(models, ["--cache-dir", str(cache), "--json"]).output)
    assert [(row["model"], row["dtype"]) for row in listed] == [("a/one", "int4"), ("a/one", "int8"), ("b/two", "int8")]
    table = CliRunner().invoke(models, ["--cache-dir", str(cache)]).output
    assert table.count("a/one") == 2
    assert table.count("b/two") == 1


def test_an_empty_cache_says_how_to_begin(tmp_path: Path) -> None:
    assert "infrs pull" in CliRunner().invoke(models, ["--cache-dir", str(tmp_path)]).output


@pytest.mark.parametrize(
    ("arguments", "answers", "left"),
    [
        (["a/one", "--yes"], "", {"b/two"}),
        (["a/one", "--dtype", "int4", "--yes"], "", {"a/one", "b/two"}),
        (["a/one"], "n\nn\n", {"a/one", "b/two"}),
        (["a/one"], "y\ny\n", {"b/two"}),
    ],
)
def test_remove_removes_what_is_confirmed(cache: Path, arguments: list[str], answers: str, left: set[str]) -> None:
    result = CliRunner().invoke(models, ["--cache-dir", str(cache), "remove", *arguments], input=answers)
    assert result.exit_code == 0
    listed = json.loads(CliRunner().invoke(models, ["--cache-dir", str(cache), "--json"]).output)
    assert {row["model"] for row in listed} == left
    assert not list(cache.glob("*/.removed-*"))


def test_removing_an_unknown_model_names_it(cache: Path) -> None:
    error = CliRunner().invoke(models, ["--cache-dir", str(cache), "remove", "c/three"]).exception
    assert str(error) == f"{cache} holds no bundle of c/three; see infrs models"


def test_a_busy_port_is_a_warning() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        finding = checks.check_port(Settings(server=ServerSettings(port=port)))
    assert (finding.level, bool(finding.advice)) == (Level.WARNING, True)
    assert checks.check_port(Settings(server=ServerSettings(port=0))).level is Level.GOOD


def test_more_threads_than_cpus_are_a_warning() -> None:
    assert checks.check_cpus(Settings(engine=EngineSettings(threads=1024))).level is Level.WARNING
    assert checks.check_cpus(Settings(engine=EngineSettings(threads=1))).level is Level.GOOD


def test_a_cache_that_is_a_file_is_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert checks.check_cache(Settings(model=ModelSettings(cache_dir=file))).level is Level.PROBLEM
    assert (
        checks.check_cache(Settings(model=ModelSettings(cache_dir=tmp_path / "new" / "cache"))).level
        is not Level.PROBLEM
    )


@pytest.mark.parametrize(("flags", "level"), [("avx2 fma f16c avx512f", Level.GOOD), ("sse4_2", Level.WARNING)])
def test_a_processor_without_avx2_is_a_warning(tmp_path: Path, flags: str, level: Level) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor: 0\nflags\t\t: {flags}\n")
    if checks.native.library() is None:
        level = Level.WARNING
    assert checks.check_kernels(Settings(), cpuinfo).level is level


def test_a_token_is_found_but_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    finding = checks.check_token(Settings())
    assert (finding.level, finding.seen) == (Level.GOOD, "HF_TOKEN is set")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert "none is set" in checks.check_token(Settings()).seen


def test_a_hub_out_of_reach_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://user:s3cret@127.0.0.1:1")
    finding = checks.check_hub(Settings())
    assert finding.level is Level.WARNING
    assert finding.seen.startswith("http://127.0.0.1:1 does not answer")
    assert "s3cret" not in finding.seen


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://hub.example/a", "https://hub.example/a"),
        ("https://user:s3cret@hub.example", "https://hub.example"),
        ("https://user:s3/cr@et@hub.example/a", "https://hub.example/a"),
        ("no route to https://user@hub.example, sorry", "no route to https://hub.example, sorry"),
    ],
)
def test_no_password_is_shown(text: str, shown: str) -> None:
    assert without_password(text) == shown


def test_doctor_reports_every_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("INFRS_MODEL__CACHE_DIR", str(tmp_path))
    result = CliRunner().invoke(doctor, ["--json"])
    findings = json.loads(result.output)
    assert len(findings) == len(checks.CHECKS)
    assert result.exit_code == any(finding["level"] == "problem" for finding in findings)
    text = CliRunner().invoke(doctor).output
    assert all(finding["subject"] in text for finding in findings)


def test_the_group_imports_a_command_only_when_it_runs() -> None:
    code = "import sys; from infrs.terminal.group import group; print([m for m in sys.modules if m == 'sanic'])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    listed = CliRunner().invoke(group, ["--help"]).output
    assert all(name in listed for name in ("chat", "serve", "pull", "models", "doctor", "bench", "export"))


@pytest.mark.parametrize(
    "command", ["chat", "serve", "pull", "models", "batch", "doctor", "bench", "export", "completion"]
)
def test_every_command_of_the_group_has_help(command: str) -> None:
    result = CliRunner().invoke(group, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.output


def test_a_shell_completes_commands_and_cached_models(cache: Path) -> None:
    def complete(words: str) -> list[str]:
        environment = os.environ | {
            "_INFRS_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
        }
        code = "from infrs.terminal.group import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, cwd=cache.parent, capture_output=True, text=True, check=True
        )
        return [line.partition(",")[2] for line in done.stdout.splitlines()]

    cache.rename(cache.parent / "models_cache")
    assert complete("infrs do") == ["doctor"]
    assert complete("infrs chat a") == ["a/one"]
    assert "--help-all" in complete("infrs serve --help")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_covers_all_programs(shell: str) -> None:
    script = CliRunner().invoke(group, ["completion", shell]).output
    assert all(f"_{name}_COMPLETE" in script for name in ("INFRS", "INFRS_SERVE", "INFRS_EXPORT", "INFRS_BENCH"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["frobnicate"], "No such command 'frobnicate'; see infrs --help"),
        (["chat", "--model", "x"], "No such option '--model'; leave the flag out: infrs chat [MODEL]"),
        (["models", "remove"], "Missing argument 'MODEL'; see infrs models remove --help"),
        (["chat", "--sistem", "x"], "No such option '--sistem'. Did you mean '--system'?"),
    ],
)
def test_a_wrong_command_line_says_what_to_write(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(group, "infrs", arguments)
    assert (ended.value.code, capsys.readouterr().err) == (2, f"infrs: {message}\n")
