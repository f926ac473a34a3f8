"""A gated MLP by ONNX Runtime's `QMoE` with one expert, which fuses all of it, against its three products in a graph.

    python benchmarks/whole_mlp.py [--hidden 576] [--inner 1536] [--rounds 9]

4 bits in blocks of 32 on either side, two threads; the products by ONNX Runtime's kernels and by infrs's.
"""

from __future__ import annotations

import statistics
import tempfile
from functools import partial
from pathlib import Path

import click
import numpy as np
import onnx
import onnxruntime
import turns
from onnx import TensorProto, helper, numpy_helper

from infrs.engine.runners.session import create_session

_BLOCK, _REPEATS = 32, 30
_MICROSOFT = "com.microsoft"


def model(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], hidden: int) -> onnx.ModelProto:
    """A graph from x [rows, hidden] to y."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "mlp",
        [value("x", TensorProto.FLOAT, ["rows", hidden])],
        [value("y", TensorProto.FLOAT, ["rows", hidden])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(_MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def products(hidden: int, inner: int) -> onnx.ModelProto:
    """Gate and up in one product, as infrs exports them, SiLU and Mul, down."""
    rng = np.random.default_rng(0)
    constants: dict[str, np.ndarray] = {"half": np.array([inner, inner], np.int64)}
    for name, rows, columns in (("up", 2 * inner, hidden), ("down", hidden, inner)):
        constants[name] = rng.integers(0, 256, (rows, columns // _BLOCK, _BLOCK // 2), np.uint8)
        constants[f"{name}_scales"] = np.full((rows, columns // _BLOCK), 0.01, np.float32)

    def product(x: str, name: str, y: str, rows: int, columns: int) -> onnx.NodeProto:
        inputs = [x, name, f"{name}_scales"]
        return helper.make_node(
            "MatMulNBits",
            inputs,
            [y],
            name=name,
            domain=_MICROSOFT,
            K=columns,
            N=rows,
            bits=4,
            block_size=_BLOCK,
            accuracy_level=4,
        )

    nodes = [
        product("x", "up", "both", 2 * inner, hidden),
        helper.make_node("Split", ["both", "half"], ["gate", "value"], axis=-1),
        helper.make_node("QuickGelu", ["gate"], ["gated"], domain=_MICROSOFT, alpha=1.0),
        helper.make_node("Mul", ["gated", "value"], ["inside"]),
        product("inside", "down", "y", hidden, inner),
    ]
    return model(nodes, constants, hidden)


def fused(hidden: int, inner: int) -> onnx.ModelProto:
    """The same sizes as one expert that always has its turn."""
    rng = np.random.default_rng(0)
    constants = {
        "ones": np.ones((hidden, 1), np.float32),
        "up": rng.integers(0, 256, (1, 2 * inner, hidden // 2), np.uint8),
        "up_scales": np.full((1, 2 * inner, hidden // _BLOCK), 0.01, np.float32),
        "down": rng.integers(0, 256, (1, hidden, inner // 2), np.uint8),
        "down_scales": np.full((1, hidden, inner // _BLOCK), 0.01, np.float32),
    }
    inputs = ["x", "router", "up", "up_scales", "", "down", "down_scales", "", "", "", ""]
    nodes = [
        helper.make_node("MatMul", ["x", "ones"], ["router"]),
        helper.make_node(
            "QMoE",
            inputs,
            ["y"],
            domain=_MICROSOFT,
            k=1,
            activation_type="swiglu",
            swiglu_fusion=1,
            activation_alpha=1.0,
            activation_beta=0.0,
            expert_weight_bits=4,
            block_size=_BLOCK,
        ),
    ]
    return model(nodes, constants, hidden)


def repeat(session: onnxruntime.InferenceSession, x: np.ndarray) -> None:
    for _ in range(_REPEATS):
        session.run(None, {"x": x})


@click.command()
@click.option("--hidden", default=576, show_default=True)
@click.option("--inner", default=1536, show_default=True)
@click.option("--rounds", default=9, show_default=True)
def main(hidden: int, inner: int, rounds: int) -> None:
    """Print microseconds of each."""
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, built in (("products", products(hidden, inner)), ("fused", fused(hidden, inner))):
            onnx.save(built, Path(folder) / f"{name}.onnx")
            paths.append(Path(folder) / f"{name}.onnx")
        sessions = {
            "QMoE": create_session(paths[1], 2, kernels="onnxruntime"),
            "ONNX Runtime's products": create_session(paths[0], 2, kernels="onnxruntime"),
            "infrs's products": create_session(paths[0], 2),
        }
    for rows in (1, 8, 128):
        x = np.random.default_rng(1).standard_normal((rows, hidden)).astype(np.float32)
        times = turns.timed({name: partial(repeat, session, x) for name, session in sessions.items()}, rounds)
        for name, values in times.items():
            better = turns.how_much_faster(values, times["QMoE"])
            micros = 1e6 * statistics.median(values) / _REPEATS
            click.echo(f"{rows} rows, {name}: {micros:.0f} us, {better} of QMoE's speed")


if __name__ == "__main__":
    main()
