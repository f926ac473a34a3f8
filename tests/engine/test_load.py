"""The capacity of rows, and the errors for a graph that cannot be run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import synthetic

from infrs.bundle.manifest import GraphKind
from infrs.bundle.states import KVGeometry, StateSize, fixed_state, size_of
from infrs.config.settings import EngineSettings
from infrs.engine.build import load_engine
from infrs.engine.runners.opening import open_runner
from infrs.engine.runners.runner import Rows
from infrs.engine.state_memory import choose_capacity, plan_rows
from infrs.errors import BundleError, ConfigError
from infrs.machine.memory import Memory
from infrs.text.tokenizer import Tokenizer

MIB = 1 << 20
STATES = KVGeometry(num_layers=8, num_kv_heads=4, head_dim=64).states("float32")
SIZE = size_of(STATES, "float32")
TOKEN_BYTES = SIZE.per_token  # 16 KiB


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
    assert choose_capacity(SIZE, 2048, settings, available_mib * MIB) == capacity


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (EngineSettings(max_num_seqs=8, max_model_len=2048, kv_budget_mb=1), "budget is 1 MiB"),
        (EngineSettings(max_num_seqs=128, kv_budget_mb=1), "lower engine.max_num_seqs"),
    ],
)
def test_a_budget_that_is_too_small_is_refused(settings: EngineSettings, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        choose_capacity(SIZE, 2048, settings, 1 << 40)


def test_a_row_longer_than_the_context_is_refused_before_the_graph_is_opened(tmp_path: Path) -> None:
    manifest = synthetic.manifest()
    settings = EngineSettings(max_model_len=manifest.context_length + 1)
    with pytest.raises(ConfigError, match="max_model_len is 513, but the model's context ends at 512; lower it"):
        load_engine(tmp_path, manifest, settings, cast(Tokenizer, None))


@pytest.mark.parametrize(("budget_rows", "spare"), [(4, 0), (5, 1), (7, 3), (8, 4), (100, 4)])
def test_spare_rows_use_the_rest_of_the_budget(budget_rows: int, spare: int) -> None:
    capacity = (64 << 20) // (budget_rows * TOKEN_BYTES)
    settings = EngineSettings(max_num_seqs=4, kv_budget_mb=64, max_model_len=capacity)
    assert plan_rows(SIZE, 2048, settings, Memory(1 << 41, 1 << 40)) == Rows(4, capacity, spare)


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
    settings = EngineSettings(max_num_seqs=4, max_model_len=100)
    memory = Memory(*(rows * 100 * TOKEN_BYTES for rows in (total_rows, available_rows)))
    assert plan_rows(SIZE, 2048, settings, memory) == Rows(4, 100, spare)


@pytest.mark.parametrize(
    ("size", "budget_mib", "expected"),
    [
        (StateSize(TOKEN_BYTES, MIB), 4 * (100 + 1), Rows(4, 6400)),  # the states take a MiB of each row
        (StateSize(TOKEN_BYTES, MIB), 4 * (100 + 1) + 3, Rows(4, 6400, num_snapshots=1)),
        (StateSize(TOKEN_BYTES, MIB), 8 * (100 + 1) + 16, Rows(4, 6400, num_spare_rows=4, num_snapshots=16)),
        (StateSize(0, MIB), 8, Rows(4, 6400, num_spare_rows=2, num_snapshots=2)),  # no keys and values at all
    ],
)
def test_states_of_a_fixed_size_count_in_the_budget(size: StateSize, budget_mib: int, expected: Rows) -> None:
    settings = EngineSettings(max_num_seqs=4, kv_budget_mb=budget_mib, max_model_len=6400)
    assert plan_rows(size, 8192, settings, Memory(1 << 41, 1 << 40)) == expected


def test_a_row_without_keys_and_values_is_as_long_as_the_context() -> None:
    settings = EngineSettings(max_num_seqs=2, kv_budget_mb=2)
    assert choose_capacity(StateSize(0, MIB), 8192, settings, 1 << 40) == 8192
    with pytest.raises(ConfigError, match="need 5 MiB"):
        choose_capacity(StateSize(0, 2 * MIB), 8192, settings, 1 << 40)


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        (
            ("recurrent", "fused"),
            "model.draft: test/synthetic keeps states from which a rejected token cannot be dropped",
        ),
        (("fused", "recurrent"), "model.draft: test/draft keeps states from which a rejected token cannot be dropped"),
        (("plain", "fused"), "model.draft: test/synthetic does not run on infrs's kernels alone, so a token's bits "),
    ],
)
def test_models_that_cannot_verify_or_drop_draft_tokens_are_refused(
    kinds: tuple[str, str],
    words: str,
    synthetic_bundles: dict[GraphKind, Path],
    recurrent_bundle: Path,
) -> None:
    folders = {"recurrent": recurrent_bundle, **synthetic_bundles}
    manifests = [
        synthetic.manifest("plain" if kind == "plain" else "fused", recurrent=kind == "recurrent") for kind in kinds
    ]
    source = manifests[1].source.model_copy(update={"model_id": "test/draft"})
    draft = folders[kinds[1]], manifests[1].model_copy(update={"source": source})
    settings = EngineSettings(max_num_seqs=2, threads=1, kv_budget_mb=8)
    with pytest.raises(ConfigError, match=f"^{words}.*; remove model.draft$"):
        load_engine(folders[kinds[0]], manifests[0], settings, cast(Tokenizer, None), draft=draft)


@pytest.mark.parametrize(("max_model_len", "capacity", "spare"), [(0, 800, 0), (500, 500, 3), (200, 200, 4)])
def test_the_rows_of_a_draft_model_count_in_the_budget(max_model_len: int, capacity: int, spare: int) -> None:
    """Its rows take as much as one row of the model here: then five rows share what four had."""
    settings = EngineSettings(
        max_num_seqs=4, max_model_len=max_model_len, kv_budget_mb=5 * 800 * TOKEN_BYTES // MIB + 1
    )
    draft = StateSize(TOKEN_BYTES)
    planned = plan_rows(SIZE, 800, settings, Memory(1 << 41, 1 << 40), draft)
    assert planned == Rows(4, capacity, spare)
    with pytest.raises(ConfigError, match="4 sequences of 1600 tokens need"):
        plan_rows(SIZE, 1600, settings.model_copy(update={"max_model_len": 1600}), Memory(1 << 41, 1 << 40), draft)


def test_a_damaged_graph_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(BundleError, match=r"cannot open .*model\.onnx: [^\n]+; export the model again$"):
        open_runner(tmp_path, synthetic.manifest(), Rows(1, 16), threads=1)


@pytest.mark.parametrize(
    ("graph", "changes", "words"),
    [
        ("plain", {}, "the manifest gives a plain graph recurrent states; export the model again"),
        ("fused", {"dtype": "float16"}, "this version does not run the manifest's recurrent states; upgrade infrs"),
        ("fused", {"truncatable": True}, "this version does not run the manifest's recurrent states; upgrade infrs"),
    ],
)
def test_an_unsupported_state_is_refused_before_the_graph_is_opened(
    graph: GraphKind, changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    state = fixed_state("recurrent", (1, 1)).model_copy(update=changes)
    manifest = synthetic.manifest(graph).model_copy(update={"states": (*synthetic.STATES, state)})
    with pytest.raises(BundleError, match=f"^{words}$"):
        open_runner(tmp_path, manifest, Rows(1, 16), threads=1)


def test_a_graph_of_the_other_kind_is_refused(tmp_path: Path) -> None:
    synthetic.build(tmp_path / "model.onnx", "plain")
    with pytest.raises(BundleError, match="inputs are not those its manifest promises"):
        open_runner(tmp_path, synthetic.manifest("fused"), Rows(1, 16), threads=1)
