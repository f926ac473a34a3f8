"""`infrs-serve` as a process: every foreseen error is one line and an exit code."""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from fake_server import MANIFEST
from infrs_export.cli import main as export_command
from manifests import chat_manifest

from infrs.bundle.manifest import Manifest
from infrs.cli.announce import Start, announce
from infrs.cli.command import run
from infrs.cli.export_missing import find_or_export
from infrs.cli.flags import EVERYDAY, text_values
from infrs.cli.serve import DEMO_MODEL
from infrs.cli.serve import command as serve_command
from infrs.config.merge import flag_name
from infrs.config.other_names import NEEDLESS_FLAGS, OTHER_FLAGS
from infrs.config.settings import SECTIONS, LogFormat, ModelSettings
from infrs.core import SamplingParams
from infrs.errors import BundleNotFoundError
from infrs.extras import install_command
from infrs.models.served import ServedChatModel

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("INFRS_")}


def serve(tmp_path: Path, *arguments: str, **environ: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "infrs", *arguments],
        cwd=tmp_path,
        env=ENVIRONMENT | environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout + done.stderr


def test_help_lists_the_values_of_a_setting(tmp_path: Path) -> None:
    output = " ".join(serve(tmp_path, "--help-all")[1].split())
    assert "--dtype [auto|float32|float16|bfloat16|int8|int4] How" in output
    assert "--access-log / --no-access-log Log" in output
    assert "--port VALUE TCP port" in output


def test_help_shows_everyday_flags_by_section(tmp_path: Path) -> None:
    code, output = serve(tmp_path, "--help")
    assert code == 0
    assert re.findall(r"^(\w+:)$", output, re.MULTILINE) == ["Options:", "Model:", "Server:", "Engine:"]
    assert set(re.findall(r"--[a-z][a-z-]*", output)) >= EVERYDAY
    assert "--stall-timeout" not in output


def test_help_names_every_setting(tmp_path: Path) -> None:
    code, output = serve(tmp_path, "--help-all")
    assert code == 0
    for section, model in SECTIONS.items():
        for name in model.model_fields:
            assert flag_name(f"{section}.{name}") in output
            assert f"{section}.{name}" in output.replace("\n" + " " * 29, " ")
    assert "--model VALUE" in output


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["--port", "70000"],
            "server.port (--port): '70000' is not allowed; allowed: a whole number from 0 to 65535",
        ),
        (["--config", "no.json"], "no.json cannot be read: No such file or directory"),
        (["--config", "\x1b[2J.json"], "\\x1b[2J.json cannot be read: No such file or directory"),
        (["--prot", "1"], "No such option '--prot'. (Did you mean one of: '--draft', '--host', '--port'?)"),
        (["--demo", "--model", "a/b"], "--model and --demo each name a model; give only one of them"),
        (["a/b", "--demo"], "MODEL (a/b) and --demo each name a model; give only one of them"),
        (["a/b", "--model-id", "a/b"], "MODEL (a/b) and --model each name a model; give only one of them"),
        (["a/b", "--bundle", "c"], "MODEL (a/b) and --bundle each name a model; give only one of them"),
        (
            ["--bundle", "c", "--dtype", "int4"],
            "--bundle and --dtype exclude each other: a bundle has its own; remove one",
        ),
        (["a/b", "c/d"], "Got unexpected extra argument (c/d); see infrs-serve --help"),
        (["--access-log=false"], "--access-log takes no value; write --no-access-log"),
        (["--access-log", "false", "a/b"], "--access-log takes no value; write --no-access-log"),
        (["--traces", "true"], "--traces takes no value; write --traces"),
        (["--traces=1"], "--traces takes no value; write --traces"),
        (["-m", "a.gguf", "--port", "0"], "No such option '-m'; use --model"),
        (["a.gguf", "-np", "4"], "No such option '-np'; use --max-num-seqs"),
        (["a/b", "--served-model-name=c"], "No such option '--served-model-name'; use --model-alias"),
    ],
)
def test_a_usage_error_is_one_line_with_exit_code_2(
    tmp_path: Path,
    arguments: list[str],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        run(serve_command, "infrs-serve", arguments)
    assert (caught.value.code, capsys.readouterr().err) == (2, f"infrs-serve: {expected}\n")


def test_a_wrong_variable_is_named(tmp_path: Path) -> None:
    code, output = serve(tmp_path, INFRS_SERVER__PORT="70000")
    expected = "server.port (INFRS_SERVER__PORT): '70000' is not allowed; allowed: a whole number from 0 to 65535"
    assert (code, output) == (2, f"infrs-serve: {expected}\n")


@pytest.mark.parametrize(("other", "flag"), OTHER_FLAGS.items())
def test_every_flag_of_another_server_maps_to_a_flag_of_infrs(other: str, flag: str) -> None:
    program, _, name = flag.rpartition(" ")
    command = export_command if program == "infrs-export" else serve_command
    flags = [name for option in command.params for name in (*option.opts, *option.secondary_opts)]
    assert name in flags
    assert other not in flags


@pytest.mark.parametrize("flag", NEEDLESS_FLAGS)
def test_a_flag_without_an_equivalent_is_refused_with_the_reason(flag: str) -> None:
    with pytest.raises(click.UsageError, match=rf"No such option '{flag}'; leave it out: \S+"):
        serve_command.make_context("infrs-serve", [flag, "1"])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], {}),
        (
            ["--allow-unauthenticated", "--port", "3913"],
            {"server.allow_unauthenticated": "true", "server.port": "3913"},
        ),
        (["--no-access-log", "--traces"], {"server.access_log": "false", "server.traces": "true"}),
        (["--no-traces", "org/name"], {"server.traces": "false"}),
    ],
)
def test_switches_take_no_value(arguments: list[str], expected: dict[str, str]) -> None:
    given = serve_command.make_context("infrs-serve", arguments).params
    assert text_values({key: value for key, value in given.items() if "__" in key}) == expected


def test_a_wrong_config_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"server": {"prt": 1}}')
    code, output = serve(tmp_path)
    assert code == 2
    assert output.startswith(
        "infrs-serve: server.prt (config.json): unknown key (did you mean server.port?); allowed: "
    )
    assert output.count("\n") == 1


def test_a_port_in_use_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, output = serve(tmp_path, "--port", str(port))
    assert (code, output) == (
        2,
        f"infrs-serve: cannot listen on 127.0.0.1, port {port}: Address already in use; "
        "set server.host and server.port\n",
    )


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [(None, "there is no bundle/manifest.json, which every bundle has; name a folder like "), ("{}", "Field required")],
)
def test_a_folder_that_is_not_a_bundle_is_refused(tmp_path: Path, manifest: str | None, expected: str) -> None:
    (tmp_path / "bundle").mkdir()
    if manifest is not None:
        (tmp_path / "bundle" / "manifest.json").write_text(manifest)
    code, output = serve(tmp_path, "--port", "0", "--bundle", "bundle")
    assert code == 3
    assert expected in output
    assert output.count("\n") == 1


def test_a_bundle_that_cannot_be_loaded_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(MANIFEST.model_dump_json())
    code, output = serve(tmp_path, "--port", "0", "--bundle", ".")
    assert (code, output) == (
        3,
        "infrs-serve: .: model.onnx is not listed in its manifest; export the model again\n",
    )


def test_without_a_model_each_suggested_command_has_its_own_line(tmp_path: Path) -> None:
    code, output = serve(tmp_path, "--port", "0")
    first, *commands = output.splitlines()
    assert code == 2
    assert first == "infrs-serve: no model is named, and models_cache holds no model; run one of these:"
    assert commands[0] == "  infrs-serve --demo"
    assert len(commands) == 2


def test_a_cache_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    code, output = serve(tmp_path, "--port", "0", "--cache-dir", "f")
    assert (code, output) == (2, "infrs-serve: model.cache_dir: f is not a directory\n")


def test_without_the_export_extra_the_two_commands_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    settings = ModelSettings(model_id="org/it's", dtype="int4", cache_dir=tmp_path)
    with pytest.raises(BundleNotFoundError) as caught:
        find_or_export(settings)
    message = str(caught.value)
    assert message.startswith(f"no int4 bundle of org/it's at revision main in {tmp_path}; run: ")
    assert message.endswith(
        f"{install_command('export')} && infrs-export 'org/it'\"'\"'s' --revision main --dtype int4 --output {tmp_path}"
    )
    with pytest.raises(
        BundleNotFoundError, match=re.escape(f"; run: {install_command('export,demo')} && infrs-export demo/")
    ):
        find_or_export(settings.model_copy(update={"model_id": DEMO_MODEL}))


def test_serving_imports_no_export_packages() -> None:
    code = "import sys, infrs.cli.serve; print({'torch', 'transformers', 'optimum', 'infrs_export'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def announced(
    capsys: pytest.CaptureFixture[str],
    sampling: SamplingParams,
    *,
    with_key: bool,
    log_format: LogFormat = "text",
    draft: Manifest | None = None,
) -> list[str]:
    """The lines that a server of one chat model prints when it is ready."""
    stats = SimpleNamespace(num_rows=1, max_model_len=8, kernels="", threads=2, max_cache_bytes=3_100_000_000)
    engine = SimpleNamespace(snapshot=lambda: stats)
    model = SimpleNamespace(model_id="a/b", engine=engine, manifest=MANIFEST, sampling=sampling, draft=draft)
    served = SimpleNamespace(model_id="a/b", model=model)
    entry = SimpleNamespace(model_id="a/b", kind=ServedChatModel, spec=SimpleNamespace(at_start=True))
    registry: Any = SimpleNamespace(
        chat_models=[served], embedding_models=[], classifiers=[], entries=[entry], listed=[entry]
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        announce(Start(listener, 0.0, with_key, log_format), registry)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("with_key", [False, True])
def test_the_example_command_has_a_key_where_the_server_requires_one(
    with_key: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    words = shlex.split(announced(capsys, SamplingParams(), with_key=with_key)[-1].removeprefix("Try: "))
    assert ("authorization: Bearer YOUR_API_KEY" in words) == with_key
    assert json.loads(words[-1])["model"] == "a/b"


@pytest.mark.parametrize(
    ("own", "shown"),
    [({}, ""), ({"temperature": 0.6, "top_p": 1.0, "top_k": 20}, ", by default temperature 0.6, top_k 20")],
)
def test_the_line_of_a_model_shows_its_default_sampling(
    own: dict[str, Any], shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = announced(capsys, SamplingParams(**own), with_key=False)[0]
    engine = "ONNX Runtime's kernels, 2 threads, 1 slots, context 8, prefix cache up to 3.1 GB"
    assert line.endswith(f": float32, fused graph, {engine}{shown}")


@pytest.mark.parametrize(("draft", "shown"), [("a/b", "int4"), ("c/d", "int4 c/d")])
def test_the_line_of_a_model_shows_its_draft_model(draft: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = chat_manifest(draft, dtype="int4")
    line = announced(capsys, SamplingParams(), with_key=False, draft=manifest)[0]
    assert line.endswith(f"prefix cache up to 3.1 GB, draft model {shown}")


def test_the_ready_event_is_json_if_the_log_is(capsys: pytest.CaptureFixture[str]) -> None:
    [line] = announced(capsys, SamplingParams(), with_key=False, log_format="json")
    event = json.loads(line)
    assert event["message"].startswith("infrs ")
    assert event["url"].startswith("http://127.0.0.1:")
    assert (event["level"], event["event"], event["models"]) == ("info", "ready", ["a/b"])
