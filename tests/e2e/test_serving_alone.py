"""Serving needs none of the exporter's libraries: `pip install infrs` alone serves an exported bundle."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from live_server import SCRIPTS, serving

from infrs.bundle.manifest import Dtype

pytestmark = pytest.mark.slow

EXPORTERS = ("torch", "transformers", "optimum", "onnx", "gguf", "ml_dtypes", "safetensors", "infrs_export")
BLOCK = f"""
import sys

class Hiding:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in {EXPORTERS!r} else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
"""


@pytest.fixture
def alone(tmp_path: Path) -> dict[str, str]:
    """An environment in which the exporter's libraries cannot be imported."""
    (tmp_path / "sitecustomize.py").write_text(BLOCK)
    environ = {"PYTHONPATH": str(tmp_path)}
    probe = subprocess.run(
        [sys.executable, "-c", "import torch"], env=os.environ | environ, capture_output=True, check=False
    )
    assert b"No module named 'torch'" in probe.stderr
    return environ


def test_a_bundle_is_served_without_the_exporter(demo_bundle: Callable[[Dtype], Path], alone: dict[str, str]) -> None:
    with serving("--bundle", demo_bundle("int8"), "--threads", "1", environ=alone) as server:
        answer = server.client().chat.completions.create(
            model="demo/SmolLM2-135M-Instruct",
            messages=[{"role": "user", "content": "How many days are in a week?"}],
            temperature=0,
            max_tokens=20,
        )
        assert "7" in (answer.choices[0].message.content or "")


def test_a_missing_bundle_says_which_commands_to_run(tmp_path: Path, alone: dict[str, str]) -> None:
    done = subprocess.run(
        [SCRIPTS / "infrs-serve", "--model", "org/name", "--cache-dir", tmp_path / "cache", "--port", "0"],
        env=os.environ | alone,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3
    assert len(done.stderr.strip().splitlines()) == 1
    assert "pip install" in done.stderr
    assert "infrs-export org/name" in done.stderr
