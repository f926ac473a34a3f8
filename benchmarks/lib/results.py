"""Read and write the measured figures in benchmarks/results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parents[2]  # of the repository
RESULTS = ROOT / "benchmarks" / "results"

Kind = Literal["speed", "larger", "drafts", "scaling", "others", "quality"]


def load(kind: Kind) -> dict[str, Any]:
    """Return the saved figures of a kind; empty if there are none."""
    path = RESULTS / f"{kind}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def save(kind: Kind, content: Mapping[str, Any]) -> None:
    """Write the figures of a kind, replacing the file in one rename."""
    RESULTS.mkdir(exist_ok=True)
    partial = RESULTS / f"{kind}.partial"
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(RESULTS / f"{kind}.json")
