"""The capacity of rows, and the errors for a graph that cannot be run."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
import synthetic

from infrs.bundle.states import KVGeometry, LayerState, StateKind, bytes_per_token
from infrs.config.settings import EngineSettings
from infrs.engine.build import choose_capacity, count_spare_rows, load_engine
from infrs.engine.runners.opening import open_runner
from infrs.errors import BundleError, ConfigError
from infrs.machine.memory import Memory
from infrs.text.tokenizer import Tokenizer

MIB = 1 << 20
STATES = KVGeometry(num_layers=8, num_kv_heads=4, head_dim=64).states("float32")
TOKEN_BYTES = bytes_per_token(STATES, "float32")  # 16 KiB


@pytest.mark.parametrize(
    ("settings", "available_mib", "capacity"),
    [
        (EngineSettings(max_num_seqs=4), 4096, 2048),  # the model's context fits
        (EngineSettings(max_num_seqs=4), 64, 512),  # half of the free memory, divided by four
        (EngineSettings(max_num_seqs=4, kv_budget_mb=64), 4096, 1024),
        (EngineSettings(max_num_seqs=1, max_model_len=100), 64, 100),
    ],
)
def test_capacity_follows_settings_and_memory(settings: EngineSettings, available_mib: int, capacity: int) -> None:
    assert choose_capacity(TOKEN_BYTES, 2048, settings, available_mib * MIB) == capacity


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (EngineSettings(max_num_seqs=8, max_model_len=2048, kv_budget_mb=1), "budget is 1 MiB"),
        (EngineSettings(max_num_seqs=128, kv_budget_mb=1), "lower engine.max_num_seqs"),
    ],
)
def test_a_budget_that_is_too_small_is_refused(settings: EngineSettings, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        choose_capacity(TOKEN_BYTES, 2048, settings, 1 << 40)


def test_a_row_longer_than_the_context_is_refused_before_the_graph_is_opened(tmp_path: Path) -> None:
    manifest = synthetic.manifest()
    settings = EngineSettings(max_model_len=manifest.context_length + 1)
    with pytest.raises(ConfigError, match="max_model_len is 513, but the model's context ends at 512; lower it"):
        load_engine(tmp_path, manifest, settings, cast(Tokenizer, None))


@pytest.mark.parametrize(("budget_rows", "spare"), [(4, 0), (5, 1), (7, 3), (8, 4), (100, 4)])
def test_spare_rows_use_the_rest_of_the_budget(budget_rows: int, spare: int) -> None:
    settings = EngineSettings(max_num_seqs=4, kv_budget_mb=64)
    capacity = (64 << 20) // (budget_rows * TOKEN_BYTES)
    assert count_spare_rows(TOKEN_BYTES, capacity, settings, Memory(1 << 41, 1 << 40)) == spare


@pytest.mark.parametrize(
    ("total_rows", "available_rows", "spare"),
    [
        (1000, 1000, 4),  # as many as running sequences
        (24, 24, 3),  # an eighth of all memory
        (100, 10, 1),  # what the running sequences leave of half of the free memory
        (100, 8, 0),
    ],
)
def test_automatic_spare_rows_leave_memory_to_other_programs(total_rows: int, available_rows: int, spare: int) -> None:
    capacity, settings = 100, EngineSettings(max_num_seqs=4)
    memory = Memory(*(rows * capacity * TOKEN_BYTES for rows in (total_rows, available_rows)))
    assert count_spare_rows(TOKEN_BYTES, capacity, settings, memory) == spare


def test_a_damaged_graph_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(BundleError, match=r"cannot open .*model\.onnx: [^\n]+; export the model again$"):
        open_runner(tmp_path, synthetic.manifest(), num_rows=1, capacity=16, threads=1)


@pytest.mark.parametrize("kind", ["recurrent", "conv"])
def test_an_unsupported_state_is_refused_before_the_graph_is_opened(kind: StateKind, tmp_path: Path) -> None:
    state = LayerState(kind=kind, shape=(1, 1), dtype="float32", truncatable=False, snapshottable=True)
    manifest = synthetic.manifest().model_copy(update={"states": (*synthetic.manifest().states, state)})
    with pytest.raises(BundleError, match=f"^this version does not run {kind} state; upgrade infrs$"):
        open_runner(tmp_path, manifest, num_rows=1, capacity=16, threads=1)


def test_a_graph_of_the_other_kind_is_refused(tmp_path: Path) -> None:
    synthetic.build(tmp_path / "model.onnx", "plain")
    with pytest.raises(BundleError, match="inputs are not those its manifest promises"):
        open_runner(tmp_path, synthetic.manifest("fused"), num_rows=1, capacity=16, threads=1)
