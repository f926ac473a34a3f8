"""The fused runner over infrs's kernels: the same tokens as over ONNX Runtime's, the same bits however it is run."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import attention
import numpy as np
import numpy.typing as npt
import pytest
from synthetic import VOCAB

from infrs.engine.runner import Runner, open_runner
from infrs.engine.session import Kernels

CAPACITY = 600
PROMPT = np.random.default_rng(0).integers(1, VOCAB, 530)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("attention")
    attention.build(path / "model.onnx")
    return path


def opened(folder: Path, kernels: Kernels = "auto", threads: int = 1) -> Runner:
    runner = open_runner(folder, attention.manifest(), num_rows=3, capacity=CAPACITY, threads=threads, kernels=kernels)
    assert bool(runner.kernels) == (kernels == "auto")
    return runner


def prefill(runner: Runner, row: int, tokens: npt.NDArray[np.int64], cuts: list[int]) -> bytes:
    """The bits of the last token's scores; the row's tokens are run from each cut to the next."""
    pieces = pairwise([*cuts, len(tokens)])
    return [runner.prefill(row, tokens[start:end], start, 1).tobytes() for start, end in pieces][-1]


def decode(runner: Runner, row: int, scores: bytes, start: int, count: int) -> list[int]:
    """The greedy continuation of a row that ends at `start`."""
    tokens = [int(np.frombuffer(scores, np.float32).argmax())]
    for position in range(start, start + count - 1):
        logits = runner.decode(row, tokens[-1:], [position], [0])
        tokens.append(int(logits[0].argmax()))
    return tokens


def test_the_same_tokens_as_over_onnx_runtime(folder: Path) -> None:
    answers = []
    for kernels in ("auto", "onnxruntime"):
        runner = opened(folder, kernels)
        answers.append(decode(runner, 1, prefill(runner, 1, PROMPT, [0]), len(PROMPT), 40))
    assert answers[0] == answers[1]
    assert len(set(answers[0])) > 1


@pytest.mark.parametrize("cuts", [[0, 1], [0, 255, 256, 257], [0, 37, 300, 529], [*range(530)]], ids=len)
@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_bits_however_a_prompt_is_cut(folder: Path, cuts: list[int], threads: int) -> None:
    whole = prefill(opened(folder), 0, PROMPT, [0])
    assert prefill(opened(folder, threads=threads), 2, PROMPT, cuts) == whole


@pytest.mark.parametrize("shared", [1, 7, 8, 9, 300])
def test_a_copied_row_goes_on_as_its_own_and_leaves_the_other_alone(folder: Path, shared: int) -> None:
    """Keys lie in groups of eight: a copy that ends within one brings some of what follows along."""
    runner = opened(folder)
    prefill(runner, 0, PROMPT, [0])
    runner.copy_row(0, 2, shared)
    other = np.concatenate([PROMPT[:shared], PROMPT[::-1][:100]])
    assert runner.prefill(2, other[shared:], shared, 1).tobytes() == prefill(opened(folder), 0, other, [0])
    more = np.append(PROMPT, 5)
    assert runner.prefill(0, more[-1:], len(PROMPT), 1).tobytes() == prefill(opened(folder), 0, more, [0])
