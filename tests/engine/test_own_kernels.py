"""The fused runner with infrs's kernels gives the tokens of ONNX Runtime's, and the same bits for any chunks."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from pathlib import Path

import attention
import numpy as np
import numpy.typing as npt
import onnx
import pytest
import synthetic
from onnx import helper, numpy_helper
from synthetic import VOCAB

from infrs.engine.runners.opening import open_runner, open_session, state_size
from infrs.engine.runners.runner import Rows, Runner, Segment
from infrs.engine.runners.session import fallback_nodes, stored_dtype
from infrs.native.options import AUTO, AVX2, ONNXRUNTIME, PRECISE, KernelOptions, KVDtype

CAPACITY = 600
PROMPT = np.random.default_rng(0).integers(1, VOCAB, 530)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("attention")
    attention.build(path / "model.onnx")
    return path


def opened(folder: Path, kernels: KernelOptions = AUTO, threads: int = 1, *, blocks: bool = False) -> Runner:
    manifest = attention.manifest(blocks=blocks)
    runner = open_runner(folder, manifest, Rows(3, CAPACITY), threads=threads, kernels=kernels)
    assert bool(runner.kernels) == (kernels != ONNXRUNTIME)
    return runner


def run_last(runner: Runner, row: int, start: int, tokens: npt.NDArray[np.int64]) -> bytes:
    """Return the bits of the last token's scores."""
    return runner.run([Segment(row, start, tokens, (len(tokens) - 1,))]).tobytes()


def prefill(runner: Runner, row: int, tokens: npt.NDArray[np.int64], cuts: list[int]) -> bytes:
    """Run the tokens of a row from each cut to the next. Return the bits of the last token's scores."""
    pieces = pairwise([*cuts, len(tokens)])
    return [run_last(runner, row, start, tokens[start:end]) for start, end in pieces][-1]


def decode(runner: Runner, row: int, scores: bytes, start: int, count: int) -> list[int]:
    """Return the greedy continuation of a row that ends at `start`."""
    tokens = [int(np.frombuffer(scores, np.float32).argmax())]
    for position in range(start, start + count - 1):
        logits = runner.run([Segment(row, position, tokens[-1:], (0,))])
        tokens.append(int(logits[0].argmax()))
    return tokens


@pytest.mark.parametrize(
    ("kernels", "sizes"),
    [
        (AUTO, (4, 2)),
        (AVX2, (4, 2)),
        (PRECISE, (4, 4)),
        (ONNXRUNTIME, (4, 4)),
        (KernelOptions(kv_dtype="int8"), (1, 1)),
        (KernelOptions(kv_dtype="float16"), (2, 2)),
        (KernelOptions(kv_dtype="float32"), (4, 4)),
        (KernelOptions(kv_dtype="float16", precision="high"), (2, 2)),
        (KernelOptions(kv_dtype="float16", kernels="onnxruntime"), (4, 4)),
    ],
)
def test_keys_and_values_have_the_bits_of_the_bundle_or_the_setting(
    folder: Path, kernels: KernelOptions, sizes: tuple[int, int]
) -> None:
    """sizes: bytes of a number, in a bundle that stores 32 bits and in one that stores 16. Bytes come with scales."""
    for blocks, size in zip((False, True), sizes, strict=True):
        manifest = attention.manifest(blocks=blocks)
        session = open_session(folder, manifest, threads=1, kernels=kernels)
        numbers = 2 * sum(prod(state.shape) for state in manifest.states)
        scales = 2 * sum(num_heads for num_heads, _ in (state.shape for state in manifest.states)) if size == 1 else 0
        assert state_size(session, manifest).per_token == numbers * size + 4 * scales


def test_the_plain_graph_keeps_keys_and_values_in_32_bits(tmp_path: Path) -> None:
    synthetic.build(tmp_path / "model.onnx", "plain")
    manifest = synthetic.manifest("plain")
    assert state_size(open_session(tmp_path, manifest, threads=1), manifest).per_token == 8


@pytest.mark.parametrize("blocks", [False, True])
def test_tokens_equal_those_of_onnx_runtime(folder: Path, blocks: bool) -> None:
    answers = []
    for kernels in (AUTO, ONNXRUNTIME):
        runner = opened(folder, kernels, blocks=blocks)
        answers.append(decode(runner, 1, prefill(runner, 1, PROMPT, [0]), len(PROMPT), 40))
    assert answers[0] == answers[1]
    assert len(set(answers[0])) > 1


@pytest.mark.parametrize("cuts", [[0, 1], [0, 255, 256, 257], [0, 37, 300, 529], [*range(530)]], ids=len)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kv_dtype", ["float32", "float16", "int8"])
def test_scores_have_the_same_bits_for_any_chunks_of_a_prompt(
    folder: Path, cuts: list[int], threads: int, kv_dtype: KVDtype
) -> None:
    kernels = KernelOptions(kv_dtype=kv_dtype)
    whole = prefill(opened(folder, kernels), 0, PROMPT, [0])
    assert prefill(opened(folder, kernels, threads), 2, PROMPT, cuts) == whole


@pytest.mark.parametrize("shared", [1, 7, 8, 9, 300])
@pytest.mark.parametrize("kv_dtype", ["float32", "float16", "int8"])
def test_a_copied_row_continues_and_leaves_its_source_unchanged(folder: Path, shared: int, kv_dtype: KVDtype) -> None:
    """Keys are stored in groups of eight, so a copy that ends within a group includes some later tokens."""
    kernels = KernelOptions(kv_dtype=kv_dtype)
    runner = opened(folder, kernels)
    prefill(runner, 0, PROMPT, [0])
    runner.store.copy(0, 2, shared)
    other = np.concatenate([PROMPT[:shared], PROMPT[::-1][:100]])
    alone = prefill(opened(folder, kernels), 0, other, [0])
    assert run_last(runner, 2, shared, other[shared:]) == alone
    more = np.append(PROMPT, 5)
    alone = prefill(opened(folder, kernels), 0, more, [0])
    assert run_last(runner, 0, len(PROMPT), more[-1:]) == alone


def test_a_runner_with_a_node_that_falls_back_is_not_chunk_invariant(folder: Path, tmp_path: Path) -> None:
    """The node is a norm with an output that only ONNX Runtime's kernel has. Attention stays with infrs's kernels."""
    model = onnx.load(folder / "model.onnx")
    nodes = list(model.graph.node)
    (place,) = (index for index, node in enumerate(nodes) if node.input[0] == "attended")
    width = attention.HEADS * attention.DIM
    norm = helper.make_node(
        "SkipSimplifiedLayerNormalization",
        ["attended", "attended", "gamma"],
        ["normed", "", "deviation"],
        name="norm",
        domain="com.microsoft",
    )
    nodes[place].input[0] = "normed"
    del model.graph.node[:]
    model.graph.node.extend([*nodes[:place], norm, *nodes[place:]])
    model.graph.initializer.append(numpy_helper.from_array(np.ones(width, np.float32), "gamma"))
    onnx.save(model, tmp_path / "model.onnx")
    manifest = attention.manifest(blocks=True)
    assert opened(folder, blocks=True).capabilities.chunk_invariant
    runner = opened(tmp_path, blocks=True)
    assert runner.kernels.endswith(" (1 node falls back)")
    assert not runner.capabilities.chunk_invariant
    session = open_session(tmp_path, manifest, threads=1)
    assert fallback_nodes(session) == ("norm",)
    assert stored_dtype(session) == "float16"
