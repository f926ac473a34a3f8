"""`infrs-bench engine` on the demo model, which has known products."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from infrs.bench.engine.command import engine
from infrs.bench.engine.steps import ProfileError
from infrs.bundle.manifest import Dtype

pytestmark = pytest.mark.slow

LAYERS, WIDTH, QKV, MLP, VOCAB = 30, 576, 960, 1536, 49152
WEIGHTS = LAYERS * (WIDTH * QKV + WIDTH * WIDTH + 3 * WIDTH * MLP) + WIDTH * VOCAB


def test_profile_of_the_demo(demo_bundle: Callable[[Dtype], Path], tmp_path: Path) -> None:
    bundle, json_path = demo_bundle("int8"), tmp_path / "out.json"
    options = ["--rows", "2,4", "--contexts", "64", "--steps", "3", "--threads", "1", "--json", str(json_path)]
    done = CliRunner().invoke(engine, [str(bundle), *options], catch_exceptions=False)
    assert done.exit_code == 0
    assert "MatMulNBits" in done.stdout
    assert "step/limit" in done.stdout
    document = orjson.loads(json_path.read_bytes())
    assert document["dtype"] == "int8"
    weights = (bundle / "model.onnx.data").stat().st_size
    for rows, case in zip((2, 4), document["cases"], strict=True):
        assert case["times"]["rows"] == rows
        assert sum(operator["multiply_adds"] for operator in case["operators"]) == rows * WEIGHTS
        nodes = {operator["kind"]: operator["nodes"] for operator in case["operators"]}
        assert (nodes["MatMulNBits"], nodes["GroupQueryAttention"]) == (4 * LAYERS + 1, LAYERS)
        assert case["bound"]["reading"] > weights / document["machine"]["bandwidth"]
        assert case["times"]["step"] > case["times"]["session"] > 0
    assert document["peak_multiply_adds"] > 1e8


def test_a_context_that_the_model_does_not_have(demo_bundle: Callable[[Dtype], Path]) -> None:
    bundle = str(demo_bundle("int8"))
    with pytest.raises(ProfileError, match="context ends at 8192"):
        CliRunner().invoke(engine, [bundle, "--contexts", "8192"], catch_exceptions=False)
    options = ["--contexts", "8192,32", "--rows", "1", "--steps", "2", "--threads", "1"]
    done = CliRunner().invoke(engine, [bundle, *options], catch_exceptions=False)
    assert "8192 is left out" in " ".join(done.stderr.split())
