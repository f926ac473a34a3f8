"""The command against a Hub, in a process of its own, for huggingface_hub reads its environment once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

from infrs.errors import SourceError

MODEL = "tests/tiny-llama"
TOKEN = "hf_of_this_test"
PASSWORD = "s3cret/of@it"
MAIN = "from infrs_export.entry import main; main()"
FETCH = """
from infrs_export.hub.fetch import MAX_MODEL_BYTES
from infrs_export.sources.resolve import check_source, resolve
check_source(resolve({model!r}, revision="main", model_id=None, max_bytes={max_bytes}, note=print, stage=print))
"""


def with_password(url: str) -> str:
    return url.replace("://", f"://user:{quote(PASSWORD, safe='')}@")


def run_export(
    url: str, folder: Path, *options: str, before: str = "", model: str = MODEL, main: str = MAIN, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Export `model` from the Hub at `url` into `folder`/cache.

    before: what the process does first, in Python. main: what it does then, default the command.
    """
    command = [
        sys.executable,
        "-c",
        before + "\n" + main,
        model,
        "--output",
        str(folder / "cache"),
        "--quiet",
        *options,
    ]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING_FACE"))}
    clean |= {"HF_ENDPOINT": url, "HF_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=clean | variables, timeout=120)


def fetched(url: str, folder: Path, max_bytes: int | None = None, before: str = "", **variables: str) -> str:
    """Fetch and check MODEL as an export does, and no more: that takes a second. What is said meanwhile."""
    main = FETCH.format(model=MODEL, max_bytes=max_bytes or "MAX_MODEL_BYTES")
    done = run_export(url, folder, before=before, main=main, **variables)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def refused(done: subprocess.CompletedProcess[str], *words: str, code: int = SourceError.exit_code) -> None:
    """One line on stderr, the error's code, nothing on stdout."""
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("infrs-export: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not any(part in done.stderr for part in ("s3cret", "of@it", "of%40it"))
    for word in words:
        assert word in lines[0]
