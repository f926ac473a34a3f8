"""Client libraries run unchanged and get a typed answer for each of twenty everyday types."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_process import MODEL, FakeServer, fake_server

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PROGRAM = ROOT / "tests" / "clients" / "programs" / "typed_answers.py"
ENVIRONMENT = ROOT / "build" / "clients" / "bin" / "python"  # has tests/clients/requirements.txt
INSTALLED = ("langchain-json", "langchain-tools", "pydantic-ai-native", "pydantic-ai-tools")  # by the extra `dev`
OTHERS = ("openai-agents-chat", "openai-agents-responses", "instructor-tools", "instructor-json", "litellm")


def ask(python: Path | str, library: str, server: FakeServer) -> str:
    """Let a library ask for all types, and return its version and how many it asked for."""
    url = f"http://127.0.0.1:{server.port}/v1"
    command = [str(python), str(PROGRAM), url, MODEL, library]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["failed"] == {}, library
    return f"{library} ({result['version']}) {result['asked']}"


@pytest.mark.slow
@pytest.mark.nightly("typed answers of client libraries")
def test_libraries_get_typed_answers(full: bool, figure: Callable[[str], None]) -> None:
    with fake_server(script=HERE / "scripted_server.py", server={"access_log": False}) as server:
        asked = [ask(sys.executable, library, server) for library in INSTALLED]
        if full:
            assert ENVIRONMENT.exists(), "run `make nightly`"
            asked += [ask(ENVIRONMENT, library, server) for library in OTHERS]
    figure(f"all answers typed: {', '.join(asked)}")
