"""Engines over the synthetic graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import synthetic

from infrs.engine.engine import Engine
from infrs.engine.runner import FusedRunner, create_session

EngineFactory = Callable[..., Engine]


@pytest.fixture(scope="session")
def synthetic_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("synthetic") / "model.onnx"
    synthetic.build(path)
    return path


@pytest.fixture(scope="session")
def new_engine(synthetic_graph: Path) -> EngineFactory:
    session = create_session(synthetic_graph, threads=1)

    def new(num_rows: int = 4, capacity: int = 64, prefill_chunk: int = 8, min_rows: int = 1) -> Engine:
        runner = FusedRunner(session, synthetic.manifest(), num_rows=num_rows, capacity=capacity)
        runner.min_rows = min_rows
        return Engine(runner, synthetic.Letters, frozenset({0}), prefill_chunk)

    return new
