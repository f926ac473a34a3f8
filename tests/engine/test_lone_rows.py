"""A runner detects at start whether a lone row rounds differently on this machine, pads it if so, and logs it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import attention
import numpy as np
import pytest

from infrs.engine.runners.fused import FusedRunner
from infrs.engine.runners.runner import Segment
from infrs.engine.runners.session import Logits, create_session


class RoundsLoneRows(FusedRunner):
    """Simulate a processor with a separate kernel for one row."""

    def run(self, segments: Sequence[Segment]) -> Logits:
        logits = super().run(segments)
        return np.nextafter(logits, np.float32(np.inf)) if len(segments) == 1 else logits


@pytest.mark.parametrize(
    ("kind", "min_rows", "found"), [(FusedRunner, 1, "has the same bits"), (RoundsLoneRows, 2, "has other bits")]
)
def test_rounding_of_a_lone_row_is_detected_and_logged(
    kind: type[FusedRunner], min_rows: int, found: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    attention.build(tmp_path / "model.onnx")
    session = create_session(tmp_path / "model.onnx", threads=1)
    with caplog.at_level(logging.INFO, "infrs"):
        runner = kind(session, attention.manifest(), num_rows=2, capacity=16)
    assert runner.capabilities.min_rows == min_rows
    assert f"batch-invariant: a row alone {found}" in caplog.text
