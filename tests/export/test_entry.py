"""`infrs-export` where its extra is not installed."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("missing", ["safetensors", "torch"])  # which the command imports at once, and at last
def test_what_is_missing_is_told_with_how_to_get_it(missing: str, tmp_path: object) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from infrs_export.entry import main; main()"
    command = [sys.executable, "-c", code, "--demo", "--output", f"{tmp_path}/cache", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == (
        f"infrs-export: {missing} is not installed, which exporting needs; run: pip install 'infrs[export]'\n"
    )
