"""With infrs's kernels, a token of a dense family has the same bits in pieces of a prompt and in a batch.

The operators between the products are ONNX Runtime's. Some of them round a number by its place in the tensor.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from arch_models import FUSED, MIXTURES, VOCAB, make_model
from arch_runner import FusedRunner, own_session
from hybrid_models import RECURRENT
from infrs_export.graph.convert import convert
from infrs_export.recipes.recipe import lowering

from infrs.bundle.manifest import Dtype
from infrs.engine.runners.session import fallback_nodes

DENSE = [name for name in FUSED if name not in MIXTURES and name not in RECURRENT]
CUTS = [(0, 1), (1, 3), (3, 20), (20, 21), (21, 45)]
LENGTHS = [1, 6, 13]


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, dtype) for dtype in ("int8", "bfloat16") for name in DENSE]
    + [("gemma4-experts", dtype) for dtype in ("float32", "float16")],
)
def test_bits_depend_on_no_pieces_and_no_rows(name: str, dtype: Dtype, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    conversion = convert(make_model(*FUSED[name]), tmp_path, lowering(dtype))
    session = own_session(tmp_path, conversion, 1)
    assert not fallback_nodes(session)

    def runner(rows: int = 1) -> FusedRunner:
        return FusedRunner(tmp_path, conversion, rows, 64, session)

    ids = np.random.default_rng(1).integers(3, VOCAB, (1, 45))
    whole, cut = runner().run(ids), runner()
    pieces = [cut.run(np.ascontiguousarray(ids[:, start:end])) for start, end in CUTS]
    assert np.concatenate(pieces).tobytes() == whole.tobytes()
    batch, steps = runner(len(LENGTHS)), ids[0, -len(LENGTHS) :, None]
    for row, length in enumerate(LENGTHS):
        batch.run(np.ascontiguousarray(ids[:, :length]), slice(row, row + 1))
    together = batch.run(np.ascontiguousarray(steps))
    for row, length in enumerate(LENGTHS):
        alone = runner()
        alone.run(np.ascontiguousarray(ids[:, :length]))
        assert alone.run(steps[row : row + 1])[0].tobytes() == together[row].tobytes(), row
