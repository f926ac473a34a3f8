"""The page over the demo model: what a user sees first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from live_server import serving
from node_scripts import chromium, run_script

from infrs.bundle.manifest import Dtype


@pytest.mark.slow
def test_the_page_talks_to_the_demo_model(demo_cache: Callable[[Dtype], Path]) -> None:
    with serving("--demo", "--dtype", "int8", "--cache-dir", demo_cache("int8"), "--threads", "1") as server:
        run_script("demo", BASE_URL=server.url, CHROMIUM=chromium())
