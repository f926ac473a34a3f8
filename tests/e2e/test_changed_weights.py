"""A server ends with a sentence, not with a signal, when a program writes to the weights that it uses."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from live_server import serving

from infrs.bundle.manifest import Dtype
from infrs.errors import EngineError

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("demo_server")]


def test_truncated_weights_end_the_server_with_a_message(demo_bundle: Callable[[Dtype], Path], tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(demo_bundle("int8"), tmp_path / "int8-0"))
    weights = bundle / "model.onnx.data"
    with serving("--bundle", bundle, "--threads", "1", status=EngineError.exit_code) as server:
        with subprocess.Popen([sys.executable, "-c", f"import os; os.truncate({str(weights)!r}, 0)"]) as writer:
            assert server.process.wait(30) == EngineError.exit_code
            assert writer.wait(30) == 0
        assert f"another program writes to {weights}, which this server uses" in "".join(server.lines)
