"""An interrupted start leaves no files, and two servers share one bundle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_process import SLACK
from live_server import serving

from infrs.bundle.manifest import Dtype

pytestmark = pytest.mark.slow

PROGRAM = "print('begun', flush=True); from infrs.cli.entry import serve; serve()"


@pytest.mark.nightly("interrupted starts")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interrupted_start_leaves_no_files(
    demo_cache: Callable[[Dtype], Path],
    tmp_path: Path,
    number: signal.Signals,
    full: bool,
    figure: Callable[[str], None],
) -> None:
    """While it imports, reads, checks the bundle and opens the session: an exit, soon, and no traceback."""
    command = [sys.executable, "-c", PROGRAM, "--demo", "--port", "0", "--cache-dir", str(demo_cache("int8"))]
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*command, "--threads", "1"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        return process

    process, started = start(), time.monotonic()
    assert process.stdout is not None
    while "serves" not in process.stdout.readline():
        assert process.poll() is None
    whole = time.monotonic() - started
    process.kill()
    process.communicate()
    moments, slowest = 20 if full else 4, 0.0
    for moment in range(moments):
        process = start()
        time.sleep(0.05 + whole * moment / moments)
        process.send_signal(number)
        signalled = time.monotonic()
        output, _ = process.communicate(timeout=30)
        slowest = max(slowest, time.monotonic() - signalled)
        assert "Traceback" not in output
        assert process.returncode in (-number, 128 + number, 0), output  # 0: it served already, and was drained
    assert slowest < 2 + SLACK
    assert list(tmp_path.iterdir()) == []
    figure(f"{moments} moments of {whole:.1f} s: it exits within {slowest:.2f} s at most")


def test_two_servers_share_one_bundle(demo_cache: Callable[[Dtype], Path]) -> None:
    options = ("--demo", "--cache-dir", demo_cache("int8"), "--threads", "1", "--max-num-seqs", "2")
    with serving(*options) as one, serving(*options) as other:
        answers = [
            server.client().completions.create(
                model="demo/SmolLM2-135M-Instruct", prompt="The sea", max_tokens=12, temperature=0
            )
            for server in (one, other)
        ]
    assert answers[0].choices[0].text == answers[1].choices[0].text


def test_telemetry_of_onnx_runtime_is_off(tmp_path: Path) -> None:
    """With its telemetry on, ONNX Runtime creates a file among the temporary ones when it loads."""
    code = "import infrs.engine.runners.session, onnxruntime"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ORT_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean | {"TMPDIR": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
