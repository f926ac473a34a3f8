"""A server ends with a sentence, not with a signal, when a program writes to the weights that it uses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from live_server import serving

from infrs.bundle.manifest import Dtype
from infrs.errors import EngineError

pytestmark = pytest.mark.slow


def test_truncated_weights_end_the_server_with_a_message(demo_bundle: Callable[[Dtype], Path], tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(demo_bundle("int8"), tmp_path / "int8-0"))
    weights = bundle / "model.onnx.data"
    with serving("--bundle", bundle, "--threads", "1", status=EngineError.exit_code) as server:
        with subprocess.Popen([sys.executable, "-c", f"import os; os.truncate({str(weights)!r}, 0)"]) as writer:
            assert server.process.wait(30) == EngineError.exit_code
            assert writer.wait(30) == 0
        assert f"another program writes to {weights}, which this server uses" in "".join(server.lines)


def test_truncated_weights_without_a_lease_end_the_server_with_a_message(
    demo_bundle: Callable[[Dtype], Path], tmp_path: Path
) -> None:
    """Either the watchdog notices, or a run reads beyond the end of the file."""
    bundle = Path(shutil.copytree(demo_bundle("int8"), tmp_path / "int8-0"))
    weights = bundle / "model.onnx.data"
    with (
        weights.open("r+b"),  # a file that is open for writing gets no lease
        serving("--bundle", bundle, "--threads", "1", status=EngineError.exit_code) as server,
    ):
        assert "cannot have a lease (F_SETLEASE)" in "".join(server.lines)
        stream = server.client().completions.create(
            model="demo/SmolLM2-135M-Instruct", prompt="The sea", max_tokens=2000, stream=True
        )
        next(iter(stream))
        os.truncate(weights, 0)
        assert server.process.wait(30) == EngineError.exit_code
    output = "".join(server.lines)
    assert "another program writes to" in output or "another program truncated a file" in output
    assert "Traceback" not in output
