"""Prompts and decode steps of a runner alone, on arbitrary tokens."""

from __future__ import annotations

import numpy as np

from infrs.engine.runners.runner import Runner, Segment

STEPS = 16  # decode steps in one call of `decode`
CHUNK = 128  # tokens, as in the server


def fill(runner: Runner, row: int, num_tokens: int) -> None:
    """Compute a row of `num_tokens` random tokens in the server's chunks."""
    tokens = np.random.default_rng(row).integers(100, 1000, num_tokens)
    for start in range(0, num_tokens, CHUNK):
        runner.run([Segment(row, start, tokens[start : start + CHUNK])])


def decode(runner: Runner, rows: int, context: int) -> None:
    """Run STEPS decode steps of the first `rows` rows behind `context` tokens."""
    for position in range(context, context + STEPS):
        runner.run([Segment(row, position, (7,), (0,)) for row in range(rows)])
