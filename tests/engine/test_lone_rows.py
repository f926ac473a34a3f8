"""A runner detects at start whether a lone row rounds differently on this machine, pads it if so, and logs it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import attention
import numpy as np
import pytest

from infrs.engine.runners.fused import FusedRunner
from infrs.engine.runners.runner import Rows, Segment
from infrs.engine.runners.session import Logits, Tokens, create_session


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
        runner = kind(session, attention.manifest(), Rows(2, 16))
    assert runner.capabilities.min_rows == min_rows
    assert f"batch-invariant: a row alone {found}" in caplog.text


class CountsRows(FusedRunner):
    """Record the rows of each run of the session."""

    def _run(self, first: int, shape: tuple[int, int], *arguments: Tokens) -> Logits:
        self.__dict__.setdefault("shapes", []).append(shape)
        return super()._run(first, shape, *arguments)


@pytest.mark.parametrize("is_invariant", [True, False])
def test_rows_share_a_run_only_if_the_graph_is_batch_invariant(is_invariant: bool, tmp_path: Path) -> None:
    attention.build(tmp_path / "model.onnx")
    session = create_session(tmp_path / "model.onnx", threads=1)
    manifest = attention.manifest().model_copy(update={"batch_invariant": is_invariant})
    runner = CountsRows(session, manifest, Rows(3, 16))
    prompts = [Segment(row, 0, (1, 2, row), (2,)) for row in range(3)]
    alone = np.concatenate([runner.run([prompt]).copy() for prompt in prompts])
    np.testing.assert_array_equal(runner.run(prompts), alone)
    runner.__dict__["shapes"].clear()
    scores = runner.run([Segment(row, 3, (1,), (0,)) for row in range(3)])
    assert runner.__dict__["shapes"] == ([(3, 1)] if is_invariant else [(1, 1)] * 3)
    assert scores.shape[0] == 3
    assert runner.capabilities.min_rows == 1
