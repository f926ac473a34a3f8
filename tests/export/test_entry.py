"""`infrs-export` where its extra is not installed."""

import subprocess
import sys

import pytest

from infrs.extras import install_command

NO_MODEL = "is neither a folder, a .gguf file nor a Hub id like org/name"
EXPORT = "from infrs_export.entry import main; main()"


@pytest.mark.parametrize("missing", ["safetensors", "torch"])  # imported first, and last
def test_missing_package_is_reported_with_the_install_command(missing: str, tmp_path: object) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; {EXPORT}"
    command = [sys.executable, "-c", code, "--demo", "--output", f"{tmp_path}/cache", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == (
        f"infrs-export: {missing} is not installed, which exporting needs; run: {install_command('export,demo')}\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        ([], 2, "name one MODEL, or give --demo; see infrs-export --help"),
        (["--demo", "--dtyp", "int8"], 2, "No such option '--dtyp'. Did you mean '--dtype'?"),
        (["/none"], 4, "/none is neither a model folder nor a .gguf file; check the path"),
        (["no one"], 4, f"'no one' {NO_MODEL}"),
        (
            ["https://hub.example/a/b/tree/main"],
            4,
            f"'https://hub.example/a/b/tree/main' {NO_MODEL}; did you mean a/b?",
        ),
        (["llama3:8b"], 4, f"'llama3:8b' {NO_MODEL}; an id has no tag, and --dtype chooses the storage of the weights"),
    ],
)
def test_errors_have_the_form_that_the_server_gives_them(arguments: list[str], code: int, expected: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", EXPORT, *arguments, "--quiet"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr == f"infrs-export: {expected}\n"
