"""Engines over the synthetic graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import synthetic
from synthetic import KINDS, EngineFactory

from infrs.bundle.manifest import GraphKind
from infrs.engine.engine import Engine
from infrs.engine.output import TextDecoder
from infrs.engine.runners.opening import open_runner
from infrs.engine.runners.runner import Capabilities, Rows
from infrs.engine.scheduling.planner import SchedulingPolicy


@pytest.fixture(scope="session")
def synthetic_bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[GraphKind, Path]:
    """Return a folder with the graph, by kind."""
    folders: dict[GraphKind, Path] = {}
    for kind in KINDS:
        folders[kind] = tmp_path_factory.mktemp(kind)
        synthetic.build(folders[kind] / "model.onnx", kind)
    return folders


@pytest.fixture(scope="session")
def recurrent_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the fused graph that also has a recurrent state."""
    folder = tmp_path_factory.mktemp("recurrent")
    synthetic.build(folder / "model.onnx", "fused", recurrent=True)
    return folder


@pytest.fixture
def new_engine(synthetic_bundles: dict[GraphKind, Path], recurrent_bundle: Path) -> EngineFactory:
    def new(
        *,
        num_rows: int = 4,
        capacity: int = 64,
        prefill_chunk: int = 8,
        min_rows: int = 1,
        kind: GraphKind = "fused",
        chunk_invariant: bool = False,
        num_spare_rows: int = 0,
        num_snapshots: int | None = None,  # None: without a recurrent state
        new_decoder: Callable[[], TextDecoder] = synthetic.Letters,
        **policy: int,  # fields of SchedulingPolicy
    ) -> Engine:
        recurrent = num_snapshots is not None
        bundle = recurrent_bundle if recurrent else synthetic_bundles[kind]
        rows = Rows(num_rows, capacity, num_spare_rows, num_snapshots or 0)
        runner = open_runner(bundle, synthetic.manifest(kind, recurrent=recurrent), rows, threads=1)
        # The formula is exact.
        runner.capabilities = Capabilities(chunk_invariant, min_rows, truncatable=runner.capabilities.truncatable)
        return Engine(runner, new_decoder, frozenset({0}), prefill_chunk, SchedulingPolicy(**policy))

    return new
