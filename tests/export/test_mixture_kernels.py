"""Every fused mixture of experts runs on infrs's kernels, with the bits of a token alone in any chunk."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from arch_models import MIXTURES, VOCAB, make_model
from arch_runner import FusedRunner, own_session
from infrs_export.graph.convert import Conversion, convert
from infrs_export.recipes.recipe import lowering
from numpy.typing import NDArray

from infrs.engine.runners.session import fallback_nodes

CUTS = [0, 19, 20, 21, 35]


class OwnRunner(FusedRunner):
    """Runs a graph with infrs's kernels."""

    def __init__(self, directory: Path, conversion: Conversion) -> None:
        super().__init__(directory, conversion, session=own_session(directory, conversion))
        left = fallback_nodes(self._session)
        assert not [name for name in left if "shared_mlp" not in name]  # 48 wide, which is no whole number of blocks


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    weights = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("name", MIXTURES)
def test_a_mixture_runs_on_own_kernels(name: str, tmp_path: Path) -> None:
    """infrs's kernels round activations to 8 bits, ONNX Runtime's for experts do not: their probabilities are close."""
    torch.set_num_threads(1)
    conversion = convert(make_model(*MIXTURES[name]), tmp_path, lowering("int4"))
    ids = np.random.default_rng(1).integers(3, VOCAB, (1, CUTS[-1]))
    whole = OwnRunner(tmp_path, conversion).run(ids)
    exact = probabilities(FusedRunner(tmp_path, conversion).run(ids))
    assert np.abs(probabilities(whole) - exact).sum(axis=-1).mean() < 0.02
    runner = OwnRunner(tmp_path, conversion)
    pieces = [runner.run(np.ascontiguousarray(ids[:, start:stop])) for start, stop in pairwise(CUTS)]
    assert np.concatenate(pieces).tobytes() == whole.tobytes()
