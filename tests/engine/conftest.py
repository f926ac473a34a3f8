"""Engines over the synthetic graph."""

from __future__ import annotations

from pathlib import Path

import pytest
import synthetic
from synthetic import KINDS, EngineFactory

from infrs.bundle.manifest import GraphKind
from infrs.engine.engine import Engine
from infrs.engine.runners.opening import open_runner
from infrs.engine.runners.runner import Capabilities


@pytest.fixture(scope="session")
def synthetic_bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[GraphKind, Path]:
    """Return a folder with the graph, by kind."""
    folders: dict[GraphKind, Path] = {}
    for kind in KINDS:
        folders[kind] = tmp_path_factory.mktemp(kind)
        synthetic.build(folders[kind] / "model.onnx", kind)
    return folders


@pytest.fixture
def new_engine(synthetic_bundles: dict[GraphKind, Path]) -> EngineFactory:
    def new(
        *,
        num_rows: int = 4,
        capacity: int = 64,
        prefill_chunk: int = 8,
        min_rows: int = 1,
        kind: GraphKind = "fused",
        chunk_invariant: bool = False,
        num_spare_rows: int = 0,
    ) -> Engine:
        bundle = synthetic_bundles[kind]
        runner = open_runner(
            bundle,
            synthetic.manifest(kind),
            num_rows=num_rows,
            num_spare_rows=num_spare_rows,
            capacity=capacity,
            threads=1,
        )
        runner.capabilities = Capabilities(chunk_invariant=chunk_invariant, min_rows=min_rows)  # the formula is exact
        return Engine(runner, synthetic.Letters, frozenset({0}), prefill_chunk)

    return new
