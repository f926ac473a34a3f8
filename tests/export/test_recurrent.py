"""Families with states of a fixed size against PyTorch, and in pieces, in a batch and next to idle rows."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from arch_models import MIXTURES, RECURRENT, VOCAB, make_model
from arch_runner import FusedRunner, own_session
from infrs_export.cli import main
from infrs_export.graph.convert import Conversion, convert
from infrs_export.recipes.recipe import lowering
from infrs_export.sources.resolve import resolve
from infrs_export.sources.torch_model import load_model
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from tiny_tokenizer import VOCAB as TOKENS
from tiny_tokenizer import write_tokenizer
from transformers import PreTrainedModel

from infrs.bundle.files import verify_bundle
from infrs.bundle.manifest import Dtype, Manifest
from infrs.cli.command import run
from infrs.engine.runners.session import fallback_nodes
from infrs.errors import ExportError, SourceError

TOLERANCE = 1e-4
CAPACITY = 128
LENGTH = 101  # more than a chunk of the delta rule in transformers (64), and no multiple of it
CUTS = [0, 1, 3, 67, 68, 69, LENGTH]
GREEDY = 24
KERNELS = ["onnxruntime", "infrs"]

Converted = Callable[[str, Dtype], tuple[PreTrainedModel, Path, Conversion]]


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """Convert a family once for all tests of this file."""
    torch.set_num_threads(1)
    made: dict[tuple[str, Dtype], tuple[PreTrainedModel, Path, Conversion]] = {}

    def get(name: str, dtype: Dtype) -> tuple[PreTrainedModel, Path, Conversion]:
        if (name, dtype) not in made:
            model, directory = make_model(*RECURRENT[name]), tmp_path_factory.mktemp(name)
            made[name, dtype] = (model, directory, convert(model, directory, lowering(dtype)))
        return made[name, dtype]

    return get


def tokens(rows: int = 1, length: int = LENGTH) -> NDArray[np.int64]:
    return np.random.default_rng(1).integers(3, VOCAB, (rows, length))


def open_runner(
    directory: Path, conversion: Conversion, rows: int = 1, kernels: str = "onnxruntime", threads: int = 1
) -> FusedRunner:
    session = own_session(directory, conversion, threads) if kernels == "infrs" else None
    assert session is None or not fallback_nodes(session)
    return FusedRunner(directory, conversion, rows, CAPACITY, session)


def in_pieces(runner: FusedRunner, ids: NDArray[np.int64], row: int = 0) -> NDArray[np.float32]:
    place = slice(row, row + 1)
    return np.concatenate([runner.run(np.ascontiguousarray(ids[:, a:b]), place) for a, b in pairwise(CUTS)])


@pytest.mark.parametrize("name", RECURRENT)
def test_long_prompts_equal_eager_pytorch(name: str, converted: Converted) -> None:
    model, directory, conversion = converted(name, "float32")
    ids = tokens()
    with torch.inference_mode():
        expected = model(torch.from_numpy(ids), use_cache=False).logits[0].numpy()
    assert np.abs(expected).max() > 0.5  # the comparison means something
    whole = open_runner(directory, conversion).run(ids)
    np.testing.assert_allclose(whole, expected, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(in_pieces(open_runner(directory, conversion), ids), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", RECURRENT)
def test_greedy_tokens_are_those_of_transformers(name: str, converted: Converted) -> None:
    model, directory, conversion = converted(name, "float32")
    prompts = [tokens(length=length) for length in (5, 70)]
    model.generation_config.pad_token_id = 0
    expected = [
        model.generate(torch.from_numpy(ids), max_new_tokens=GREEDY, do_sample=False, eos_token_id=None)[0, ids.size :]
        for ids in prompts
    ]
    batch = open_runner(directory, conversion, rows=2)
    starts = []
    for row, ids in enumerate(prompts):
        alone = open_runner(directory, conversion)
        starts.append(int(alone.run(ids)[-1].argmax()))
        given = [starts[-1]]
        while len(given) < GREEDY:
            given.append(int(alone.run(np.array([[given[-1]]]))[0].argmax()))
        assert given == expected[row].tolist()
        batch.run(ids, slice(row, row + 1))
    both = [starts]
    while len(both) < GREEDY:
        both.append(batch.run(np.array(both[-1])[:, None]).argmax(-1).tolist())
    np.testing.assert_array_equal(np.array(both).T, np.stack([row.numpy() for row in expected]))


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("dtype", ["float32", "int8", "int4"])
@pytest.mark.parametrize("name", RECURRENT)
def test_idle_rows_keep_their_states(name: str, dtype: Dtype, kernels: str, converted: Converted) -> None:
    _, directory, conversion = converted(name, dtype)
    runner = open_runner(directory, conversion, 3, kernels)
    for row in range(3):
        runner.run(tokens(length=9 + row), slice(row, row + 1))
    before = [runner.fixed_states(row) for row in range(3)]
    assert all(before)
    runner.run(tokens(rows=3, length=1), active=[True, False, True])
    after = [runner.fixed_states(row) for row in range(3)]
    assert after[1] == before[1]
    assert all(one != other for row in (0, 2) for one, other in zip(after[row], before[row], strict=True))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, dtype) for dtype in ("int8", "int4") for name in RECURRENT]
    + [(name, "float32") for name in RECURRENT if name not in MIXTURES],
)
def test_bits_depend_on_no_pieces_and_no_rows(name: str, dtype: Dtype, threads: int, converted: Converted) -> None:
    """What `batch_invariant` and `chunk_invariant` of the manifest promise of infrs's kernels."""
    _, directory, conversion = converted(name, dtype)
    ids = tokens()
    whole = open_runner(directory, conversion, kernels="infrs").run(ids)
    runner = open_runner(directory, conversion, kernels="infrs", threads=threads)
    assert in_pieces(runner, ids).tobytes() == whole.tobytes()
    batch = open_runner(directory, conversion, 4, "infrs", threads)
    steps = tokens(rows=4, length=5)
    active = [[(row + step) % 3 != 0 for row in range(4)] for step in range(5)]
    for row in range(4):
        batch.run(ids[:, : 7 * row + 3], slice(row, row + 1))
    together = [batch.run(steps[:, step, None], active=active[step]) for step in range(5)]
    for row in range(4):
        alone = open_runner(directory, conversion, kernels="infrs")
        alone.run(ids[:, : 7 * row + 3])
        for step in range(5):
            if active[step][row]:
                expected = alone.run(steps[row : row + 1, step, None])
                assert together[step][row].tobytes() == expected[0].tobytes(), (row, step)
        assert batch.fixed_states(row) == alone.fixed_states(0)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("qwen3_5", {"hidden_act": "gelu"}, "linear attention with the activation gelu"),
        ("mamba2", {"hidden_act": "relu"}, "state-space layer with the activation relu"),
        ("nemotron_h", {"layers_block_type": ["linear_attention", "moe"], "num_hidden_layers": 2}, "1 of 2 layers"),
    ],
)
def test_layers_that_cannot_be_fused_are_refused(
    name: str, changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    model_type, usual = RECURRENT[name]
    with pytest.raises(ExportError, match=f"a state of a fixed size only as a fused graph, and .*{words}"):
        convert(make_model(model_type, usual | changes), tmp_path, lowering("float32"), context_length=CAPACITY)


@pytest.mark.parametrize("part", ["q", "k", "v"])
def test_a_missing_part_of_a_convolution_is_refused(part: str, tmp_path: Path) -> None:
    """transformers joins the parts of OLMo Hybrid's convolutions."""
    make_model(*RECURRENT["olmo_hybrid"]).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors[f"model.layers.0.linear_attn.{part}_conv1d.weight"]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(SourceError, match=r"lack .*linear_attn\.conv1d\.weight"):
        load_model(resolve(str(tmp_path), revision="main", model_id=None, note=print))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "int8", "int4"])
@pytest.mark.parametrize("name", RECURRENT)
def test_a_saved_checkpoint_passes_the_parity_check(name: str, dtype: Dtype, tmp_path: Path) -> None:
    model_type, changes = RECURRENT[name]
    make_model(model_type, {**changes, "vocab_size": TOKENS}).save_pretrained(tmp_path / name)
    write_tokenizer(tmp_path / name)
    run(main, "infrs-export", [str(tmp_path / name), "--output", str(tmp_path / "cache"), "--dtype", dtype, "--quiet"])
    [bundle] = [path.parent for path in (tmp_path / "cache").rglob("manifest.json")]
    manifest = verify_bundle(bundle)
    assert isinstance(manifest, Manifest)
    assert (manifest.graph, manifest.graph_reason) == ("fused", "")
    is_invariant = dtype != "float32" or name not in MIXTURES
    assert (manifest.batch_invariant, manifest.chunk_invariant) == (is_invariant, is_invariant)
    assert {state.dtype for state in manifest.states if state.kind != "kv"} == {"float32"}
