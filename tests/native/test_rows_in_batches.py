"""On this processor a row has the same bits in batches of any size, with either set of kernels.

Of infrs's kernels the other files here show it too, input by input. Of ONNX Runtime's only the operators of bundles are
looked at: MLAS chooses kernels by what the processor has, so this is measured wherever the tests run.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from attention_graph import Form
from attention_graph import model as attention_model
from kernel_graphs import FLOAT, Floats, graph_of, opened, opened_with_own
from onnx import ModelProto

from infrs.native.options import AUTO, ONNXRUNTIME, KernelOptions

INPUTS, OUTPUTS = 576, 1536
SIZES = [2, 3, 5, 8, 16, 33, 64]
SETS: list[KernelOptions] = [AUTO, ONNXRUNTIME]
OWN = {"MatMulNBits 4", "MatMulNBits 8", "SkipSimplifiedLayerNormalization"}
# With AVX2 alone, the runner therefore never decodes a single row (`_single_row_agrees` in fused.py).
MAY_DIFFER_ALONE = {("MatMulNBits 4", ONNXRUNTIME)}
RNG = np.random.default_rng(0)


def rows_of(width: int) -> tuple[int, list[int | str]]:
    return FLOAT, ["batch", "rows", width]


def product(bits: int) -> ModelProto:
    values = RNG.integers(0, 256, (OUTPUTS, INPUTS // 32, 4 * bits), dtype=np.uint8)
    scales = RNG.standard_normal((OUTPUTS, INPUTS // 32)).astype(np.float32)
    attributes = {"K": INPUTS, "N": OUTPUTS, "bits": bits, "block_size": 32, "accuracy_level": 4}
    inputs = {"x": rows_of(INPUTS), "values": values, "scales": scales}
    return graph_of("MatMulNBits", inputs, {"y": ["batch", "rows", OUTPUTS]}, attributes)


def dense(kind: str) -> ModelProto:
    weights = RNG.standard_normal((INPUTS, OUTPUTS)).astype(np.float32)
    return graph_of(kind, {"x": rows_of(INPUTS), "weights": weights}, {"y": ["batch", "rows", OUTPUTS]}, {})


def norm() -> ModelProto:
    gamma = RNG.standard_normal(INPUTS).astype(np.float32)
    inputs: dict[str, Any] = {"x": rows_of(INPUTS), "skip": rows_of(INPUTS), "gamma": gamma}
    outputs = {"y": ["batch", "rows", INPUTS]}
    return graph_of("SkipSimplifiedLayerNormalization", inputs, outputs, {"epsilon": 1e-5})


def elementwise(kind: str) -> ModelProto:
    return graph_of(kind, {"x": rows_of(INPUTS)}, {"y": ["batch", "rows", INPUTS]}, {})


MODELS = {
    "MatMul": dense("MatMul"),
    "FusedMatMul": dense("FusedMatMul"),
    "MatMulNBits 4": product(4),
    "MatMulNBits 8": product(8),
    "SkipSimplifiedLayerNormalization": norm(),
    **{kind: elementwise(kind) for kind in ("Softmax", "Sigmoid", "Tanh", "Erf", "Exp")},
}
for kind in ("MatMul", "Softmax", "Sigmoid", "Tanh", "Erf", "Exp"):
    MODELS[kind].graph.node[0].domain = ""
CASES = [(name, kernels) for name in MODELS for kernels in SETS if name in OWN or kernels == ONNXRUNTIME]


@cache
def session(name: str, kernels: KernelOptions, threads: int) -> ort.InferenceSession:
    return (opened if kernels == ONNXRUNTIME else opened_with_own)(MODELS[name], threads, kernels)


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize(("name", "kernels"), CASES)
def test_a_row_has_the_same_bits_in_batches_of_any_size(name: str, kernels: KernelOptions, threads: int) -> None:
    """The rows are tokens of one sequence, and single tokens of several sequences."""
    run = session(name, kernels, threads)
    inputs = [entry.name for entry in run.get_inputs()]
    everything = [np.random.default_rng(1).standard_normal((max(SIZES), INPUTS)).astype(np.float32) for _ in inputs]

    def results(first: int, size: int, *, apart: bool) -> Floats:
        parts = [
            array[first : first + size, None] if apart else array[None, first : first + size] for array in everything
        ]
        whole = run.run(None, dict(zip(inputs, parts, strict=True)))[0]
        return np.asarray(whole).reshape(size, -1)

    expected = results(0, max(SIZES), apart=False)
    if kernels == AUTO and threads > 1:
        alone = session(name, kernels, 1).run(
            None, dict(zip(inputs, (array[None] for array in everything), strict=True))
        )
        assert np.array_equal(expected, alone[0][0])
    assert len({row.tobytes() for row in expected}) == max(SIZES)
    alone = [] if (name, kernels) in MAY_DIFFER_ALONE else [1]
    for size in alone + SIZES:
        for first in {0, (max(SIZES) - size) // 2, max(SIZES) - size}:
            for apart in (False, True):
                found = results(first, size, apart=apart)
                assert np.array_equal(found, expected[first : first + size]), (size, first, apart)


FORM = Form(heads=9, kv_heads=3, dim=64, rotary=32, packed=False)


@pytest.mark.parametrize("kernels", SETS)
@pytest.mark.parametrize("threads", [1, 2])
def test_rows_of_different_lengths_decode_with_the_bits_of_each_row_alone(kernels: KernelOptions, threads: int) -> None:
    """The operator is GroupQueryAttention with its rotation."""
    run = (opened if kernels == ONNXRUNTIME else opened_with_own)(attention_model(FORM), threads, kernels)
    lengths, capacity = np.array([0, 1, 7, 30, 63, 12], np.int32), 64
    rng = np.random.default_rng(2)
    kept = [rng.standard_normal((len(lengths), FORM.kv_heads, capacity, FORM.dim)).astype(np.float32) for _ in range(2)]
    new = [rng.standard_normal((len(lengths), 1, width)).astype(np.float32) for width in FORM.widths]

    def outputs(chosen: list[int]) -> Floats:
        feeds = {name: array[chosen] for name, array in zip(("query", "key", "value"), new, strict=True)}
        feeds |= {name: array[chosen] for name, array in zip(("past_key", "past_value"), kept, strict=True)}
        feeds |= {"lengths": lengths[chosen], "total": np.array(lengths[chosen].max() + 1, np.int32)}
        return np.asarray(run.run(["output"], feeds)[0])

    together = outputs(list(range(len(lengths))))
    for row in range(len(lengths)):
        assert np.array_equal(outputs([row])[0], together[row])
        assert np.array_equal(outputs([row, 3])[0], together[row])
