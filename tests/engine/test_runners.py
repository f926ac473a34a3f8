"""Runners on the synthetic graphs: segments of any mix give the logits of the formula."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import synthetic

from infrs.bundle.manifest import GraphKind
from infrs.engine.runners.opening import open_runner
from infrs.engine.runners.runner import Rows, Runner, Segment

A, B, C = [5, 6, 7], [11, 12], [20, 21, 22, 23]


@pytest.fixture(params=synthetic.KINDS)
def runner(request: pytest.FixtureRequest, synthetic_bundles: dict[GraphKind, Path]) -> Runner:
    """Return a runner with A, B and C in its rows 0, 1 and 3."""
    manifest = synthetic.manifest(request.param)
    made = open_runner(synthetic_bundles[request.param], manifest, Rows(4, 16), threads=1)
    made.run([Segment(0, 0, A), Segment(1, 0, B), Segment(3, 0, C)])
    return made


@pytest.mark.parametrize(
    "segments",
    [
        [Segment(0, 3, (1,), (0,)), Segment(1, 2, (2,), (0,))],
        [Segment(0, 3, (1,), (0,)), Segment(1, 2, (2,), (0,)), Segment(2, 0, ()), Segment(3, 4, (3,), (0,))],
        [Segment(3, 4, (3,), (0,)), Segment(0, 3, (1,), (0,))],
        [Segment(0, 3, (1, 2, 3), (0, 2)), Segment(1, 2, (4,), (0,)), Segment(3, 4, (3, 9), range(2))],
        [Segment(0, 3, (1,)), Segment(1, 2, (2,), (0,))],
        [Segment(2, 0, ()), Segment(0, 3, (1,), (0,))],
        [Segment(0, 1, (9, 8), (1,))],  # from an earlier position
    ],
)
def test_scored_tokens_of_any_segments_have_the_logits_of_their_rows(runner: Runner, segments: list[Segment]) -> None:
    cached = {0: A, 1: B, 2: [], 3: C}
    expected = [
        synthetic.next_logits([*cached[row][:start], *input_ids[: offset + 1]])
        for row, start, input_ids, scored in segments
        for offset in scored
    ]
    assert np.array_equal(runner.run(segments), np.array(expected))


def test_segments_without_scored_tokens_give_no_logits(runner: Runner) -> None:
    assert runner.run([Segment(0, 3, (1, 2))]).shape == (0, synthetic.VOCAB)
    assert runner.run([Segment(0, 5, (3,)), Segment(1, 2, (3,))]).shape == (0, synthetic.VOCAB)


def test_a_copied_row_continues_from_any_earlier_position(runner: Runner) -> None:
    runner.store.copy(3, 2, 3)
    [logits] = runner.run([Segment(2, 2, (7,), (0,))])
    assert np.array_equal(logits, synthetic.next_logits([*C[:2], 7]))
    [logits] = runner.run([Segment(3, 4, (7,), (0,))])
    assert np.array_equal(logits, synthetic.next_logits([*C, 7]))
