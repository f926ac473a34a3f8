"""The page in Chromium, over running servers; the tests themselves are in tests/web/scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fake_process import SCRIPT, fake_server
from node_scripts import chromium, run_script

KEY = "first-key-0123456789"

SERVERS: dict[str, dict[str, Any]] = {
    "chat": {"rows": 4, "interval": 0.02},
    "key": {"rows": 4, "keys": KEY},
    "conversations": {"rows": 4, "interval": 0.02},
    "storage": {"rows": 4, "interval": 0.02, "max_model_len": 8192},
    "hostile": {},
    "accessible": {},
    "layout": {},
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


@pytest.mark.parametrize("script", SERVERS)
def test_the_page_works_in_chromium(script: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"max_queue": 16, "server": {"access_log": False}, "disk": str(tmp_path)}
    options |= SERVERS[script]
    for model in options.get("demand", ()):
        (tmp_path / model).write_text("broken" if model == "bad" else "1")
    with fake_server(**options) as server:
        base_url = f"http://127.0.0.1:{server.port}"
        run_script(script, BASE_URL=base_url, CHROMIUM=chromium(), KEY=KEY, FAKE_SERVER=str(SCRIPT))
