"""schemathesis: what /openapi.json says of the routes is so, for valid and for invalid requests."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_encoder import EMBEDDING_ID
from fake_process import MODEL, FakeServer, fake_server

KEY = "a-key-of-this-server"
BEARER = {"authorization": f"Bearer {KEY}"}
# Rules between fields ("only with `stream: true`") are beyond JSON Schema: a valid request may still be a 400.
CHECKS = ("--checks", "all", "--exclude-checks", "positive_data_acceptance")
# What refuses an invalid request; schemathesis's own list has 5xx in it, and no 413.
REFUSALS = """
[checks.negative_data_rejection]
expected-statuses = ["400", "401", "404", "405", "413", "415"]
"""
LONGEST = 1 << 16  # bytes of a body, of which some of the cases have more
CASES = 500  # of each mode, for each operation


def describe(server: FakeServer) -> dict[str, Any]:
    """The server's own description, with the models that it serves, and the key that this one wants."""
    document: dict[str, Any] = server.request("GET", "/openapi.json", headers=BEARER).json
    for name, schema in document["components"]["schemas"].items():
        if "model" in schema.get("properties", {}):
            served = EMBEDDING_ID if "Embed" in name else MODEL
            needed = "model" in schema.get("required", [])
            schema["properties"]["model"] = {"enum": [served] if needed else [served, None]}
    document["paths"]["/v1/models/{model_id}"]["get"]["parameters"][0]["schema"] = {"enum": [MODEL, "else/where"]}
    document["security"] = [{"bearerAuth": []}]
    for path in ("/health", "/ready"):
        document["paths"][path]["get"]["security"] = []
    return document


@pytest.mark.slow
@pytest.mark.nightly("schemathesis")
@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_the_server_conforms_to_its_description(
    tmp_path: Path, full: bool, figure: Callable[[str], None], mode: str
) -> None:
    options = {"access_log": False, "log_level": "error", "max_body_bytes": LONGEST}
    with fake_server(rows=4, max_queue=60, interval=0.0, embedding="beside", keys=KEY, server=options) as server:
        (tmp_path / "schemathesis.toml").write_text(REFUSALS)
        description = tmp_path / "openapi.json"
        description.write_text(json.dumps(describe(server)))
        flags = ["--url", f"http://127.0.0.1:{server.port}", "--header", f"Authorization: Bearer {KEY}"]
        flags += ["--mode", mode, "--max-examples", str(CASES if full else 25), "--request-timeout", "10", *CHECKS]
        # The coverage phase sends 10,000 valid bodies; tests/api/test_bounds.py has the same bounds in the quick form.
        # Invalid ones at random are in tests/reliability/test_http_fuzz.py.
        phases = "coverage,fuzzing" if full else {"positive": "fuzzing", "negative": "coverage"}[mode]
        flags += ["--phases", phases, "--continue-on-failure", "--generation-allow-x00=true"]
        flags += ["--no-color", *([] if full else ["--seed", "1"])]
        command = [Path(sys.executable).parent / "schemathesis", "run", *flags, description]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-2000:]
        cases = re.search(r"(\d+) generated", done.stdout)
        assert cases
        assert int(cases[1]) > 500
        figure(f"{int(cases[1]):,} cases over every route, 0 failures")
        assert server.request("GET", "/ready", headers=BEARER).status == 200
        server.process.terminate()
        assert "Traceback" not in server.output()
