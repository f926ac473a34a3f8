"""A step's time and memory do not grow with the slab's capacity: keys and values are written in place."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import attention
import numpy as np
import pytest

from infrs.bundle.states import KVGeometry
from infrs.engine.runners.fused import FusedRunner
from infrs.engine.runners.runner import Rows, Segment
from infrs.engine.runners.session import create_session
from infrs.engine.runners.slab import Slab

SMALL, LARGE = 128, 1 << 16


@pytest.fixture(scope="module")
def attention_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("attention") / "model.onnx"
    attention.build(path)
    return path


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_a_step_costs_the_same_in_a_slab_of_any_capacity(attention_graph: Path) -> None:
    session = create_session(attention_graph, threads=1)
    small, large = (FusedRunner(session, attention.manifest(), Rows(8, capacity)) for capacity in (SMALL, LARGE))

    def step(runner: FusedRunner, position: int) -> float:
        begin = time.perf_counter()
        runner.run([Segment(row, position, (row,), (0,)) for row in range(8)])
        return time.perf_counter() - begin

    def sweep() -> float:
        """Return the median ratio of step times, large slab to small slab, over interleaved pairs."""
        return statistics.median(step(large, position) / step(small, position) for position in range(100))

    sweep()
    before = resident_bytes()
    ratio = sweep()
    grown = resident_bytes() - before
    # A copy of the large slab would touch 2 x 8 x 65,536 positions of 128 bytes: 134 MB, and 100 times the time.
    assert grown < 8 << 20
    assert ratio < 4


def test_the_first_token_of_a_row_takes_pages_not_megabytes() -> None:
    states = KVGeometry(num_layers=8, num_kv_heads=4, head_dim=64).states("float32")
    slab = Slab(states, rows=8, capacity=8192)
    before = resident_bytes()
    for array in slab.arrays:
        array[:, :, 0] = 1
    # 16 arrays of 32 rows and heads, a page each: 2 MiB, where huge pages would make it 1 GiB.
    assert resident_bytes() - before < 8 << 20
    slab.copy(0, 7, 1)
    assert all(array[7, 3, 0, 63] == 1 and array[7, 3, 1, 0] == 0 for array in slab.arrays)


def test_rows_of_different_lengths_give_the_bytes_they_give_alone(attention_graph: Path) -> None:
    session = create_session(attention_graph, threads=2)
    runner = FusedRunner(session, attention.manifest(), Rows(8, SMALL))
    rng = np.random.default_rng(1)
    prompts = [rng.integers(0, 97, length) for length in (1, 2, 5, 17, 33, 64, 90, 100)]
    for row, prompt in enumerate(prompts):
        runner.run([Segment(row, 0, prompt)])
    segments = [Segment(row, len(prompt), (row,), (0,)) for row, prompt in enumerate(prompts)]
    together = runner.run(segments).copy()
    for row in range(8):
        first = max(0, row + 1 - runner.capabilities.min_rows)
        idle = [Segment(each, len(prompts[each]), ()) for each in range(first, row)]
        assert np.array_equal(runner.run([*idle, segments[row]])[0], together[row])


def test_a_copied_row_continues_like_its_source(attention_graph: Path) -> None:
    session = create_session(attention_graph, threads=1)
    runner = FusedRunner(session, attention.manifest(), Rows(3, SMALL))
    runner.run([Segment(2, 0, range(20))])
    runner.store.copy(2, 0, 20)
    original = runner.run([Segment(2, 20, (7,), (0,)), Segment(3, 0, ())]).copy()
    assert np.array_equal(runner.run([Segment(0, 20, (7,), (0,)), Segment(1, 0, ())]), original)
