"""Products of quantised weights alone, by kernel: billions of multiply-adds a second on one thread.

    python -m benchmarks.kernels.products [--rounds 200]

The kernels take turns, run by run, and each one's quickest run counts: what is left when nothing else disturbs it.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from infrs.engine.runners.session import Session, create_session, kernels_of
from infrs.native.options import AUTO, AVX2, AVX_VNNI, ONNXRUNTIME, PRECISE

BLOCK = 32
SHAPES = ((3072, 576), (576, 1536))  # outputs, inputs: the demo's two largest
ROWS = (1, 4, 8, 48, 128)


def product(bits: int, outputs: int, inputs: int) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    weights: dict[str, npt.NDArray[Any]] = {
        "values": rng.integers(0, 256, (outputs, inputs // BLOCK, BLOCK * bits // 8), dtype=np.uint8),
        "scales": rng.random((outputs, inputs // BLOCK), dtype=np.float32),
    }
    node = helper.make_node(
        "MatMulNBits",
        ["x", *weights],
        ["y"],
        domain="com.microsoft",
        N=outputs,
        K=inputs,
        bits=bits,
        block_size=BLOCK,
        accuracy_level=4,
    )
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", outputs])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def sessions(model: onnx.ModelProto) -> dict[str, Session]:
    """One for each kind of kernels that this machine has, by its name."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        for kernels in (AUTO, PRECISE, AVX_VNNI, AVX2, ONNXRUNTIME):
            session = create_session(path, 1, kernels=kernels)
            found[(kernels_of(session) or "onnxruntime").split()[0]] = session
    return found


@click.command()
@click.option("--rounds", default=200, show_default=True)
def main(rounds: int) -> None:
    """Print a table of bits, shapes, rows and kernels."""
    for bits in (8, 4):
        for outputs, inputs in SHAPES:
            by_kernel = sessions(product(bits, outputs, inputs))
            for rows in ROWS:
                x = np.random.default_rng(1).standard_normal((rows, inputs), dtype=np.float32)
                quickest = dict.fromkeys(by_kernel, float("inf"))
                for _ in range(rounds):
                    for name, session in by_kernel.items():
                        begun = time.perf_counter()
                        session.run(None, {"x": x})
                        quickest[name] = min(quickest[name], time.perf_counter() - begun)
                speeds = (f"{name} {rows * outputs * inputs / best / 1e9:.0f}" for name, best in quickest.items())
                click.echo(f"{bits} bits, {outputs} x {inputs}, {rows} rows: {', '.join(speeds)}")


if __name__ == "__main__":
    main()
