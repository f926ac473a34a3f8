"""What every part of the suite shares: bundles of the demo model, exported once a run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from infrs.manifest import Dtype, find_bundle

DEMO_MODEL = "demo/SmolLM2-135M-Instruct"
SCRIPTS = Path(sys.executable).parent


@pytest.fixture(scope="session")
def run_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def demo_cache(run_root: Path) -> Callable[[Dtype], Path]:
    """A cache that holds the demo model in a dtype; the exporter's own lock keeps workers from doing it twice."""
    cache = run_root / "demo_cache"

    def export(dtype: Dtype) -> Path:
        command = [SCRIPTS / "infrs-export", "--demo", "--dtype", dtype, "--output", cache]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
        assert done.returncode == 0, done.stderr
        return cache

    return export


@pytest.fixture(scope="session")
def demo_bundle(demo_cache: Callable[[Dtype], Path]) -> Callable[[Dtype], Path]:
    """The demo model's bundle in a dtype."""
    return lambda dtype: find_bundle(demo_cache(dtype), DEMO_MODEL, "main", dtype)
