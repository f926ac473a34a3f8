"""A mixture of experts alone, against products of the same shapes.

    python -m benchmarks.kernels.experts [--bits 4] [--threads 2] [--rounds 40]

The sizes are a layer of Qwen3-30B-A3B: 128 experts of 2048 to 768, 8 for each row. The yardstick is a product with as
many weights as all experts have for up to 8 rows, which reads memory, and the products of one expert for more rows. The
operators take turns, run by run, and each one's quickest run counts. Rows choose other experts in each round.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from infrs.engine.runners.session import Session, create_session

BLOCK = 32
EXPERTS, WIDTH, INNER, CHOSEN = 128, 2048, 768, 8
EXPERT_SHAPES = ((2 * INNER, WIDTH), (WIDTH, INNER))
EXPERT_WEIGHTS = 3 * WIDTH * INNER
ROWS = (1, 2, 4, 8, 32, 128, 512)
Arrays = list[npt.NDArray[Any]]


def session_of(kind: str, inputs: Mapping[str, int], constants: Arrays, threads: int, **attributes: int) -> Session:
    """A session of one node. inputs: their types."""
    names = [f"constant{place}" for place in range(len(constants))]
    node = helper.make_node(kind, [*inputs, *names], ["y"], domain="infrs.native")
    node.attribute.extend(helper.make_attribute(*item) for item in {"block_size": BLOCK, **attributes}.items())
    graph = helper.make_graph(
        [node],
        kind,
        [helper.make_tensor_value_info(name, kind, ["rows", f"{name}s"]) for name, kind in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", "width"])],
        [numpy_helper.from_array(value, name) for name, value in zip(names, constants, strict=True)],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("infrs.native", 1)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
        return create_session(path, threads)


def weights(bits: int, *shape: int) -> Arrays:
    """Random values and scales of matrices [..., outputs, inputs]."""
    rng = np.random.default_rng(0)
    blocks = (*shape[:-1], shape[-1] // BLOCK)
    values = rng.integers(0, 256, (*blocks, BLOCK * bits // 8), dtype=np.uint8)
    return [values, rng.uniform(0.001, 0.002, blocks).astype(np.float16)]


def product(bits: int, outputs: int, inputs: int, threads: int) -> Session:
    constants = weights(bits, outputs, inputs)
    return session_of("MatMulNBits", {"x": TensorProto.FLOAT}, constants, threads, bits=bits, K=inputs, N=outputs)


def seconds(session: Session, feeds: dict[str, npt.NDArray[Any]]) -> float:
    begun = time.perf_counter()
    session.run(None, feeds)
    return time.perf_counter() - begun


@click.command()
@click.option("--bits", default=4, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--rounds", default=40, show_default=True)
def main(bits: int, threads: int, rounds: int) -> None:
    """Print a table by rows: milliseconds, GB/s or GMAC/s, and the ratio to the yardstick."""
    types = {"x": int(TensorProto.FLOAT), "weights": int(TensorProto.FLOAT), "indices": int(TensorProto.INT64)}
    constants = [array for shape in EXPERT_SHAPES for array in weights(bits, EXPERTS, *shape)]
    mixture = session_of("Experts", types, constants, threads, bits=bits)
    whole = product(bits, EXPERTS * 3 * INNER, WIDTH, threads)
    parts = [product(bits, *shape, threads) for shape in EXPERT_SHAPES]
    expert_bytes = EXPERT_WEIGHTS * (bits / 8 + 2 / BLOCK)
    for rows in ROWS:
        reads = rows <= 8
        rates, yardsticks, quickest = [], [], float("inf")
        for seed in range(rounds):
            rng = np.random.default_rng(seed)
            x = rng.standard_normal((rows, WIDTH), dtype=np.float32)
            indices = np.argsort(rng.random((rows, EXPERTS)), axis=1)[:, :CHOSEN].astype(np.int64)
            shares = rng.random((rows, CHOSEN), dtype=np.float32)
            taken = seconds(mixture, {"x": x, "weights": shares, "indices": indices})
            quickest = min(quickest, taken)
            if reads:
                rates.append(len(np.unique(indices)) * expert_bytes / taken / 1e9)
                yardsticks.append(EXPERTS * expert_bytes / seconds(whole, {"x": x}) / 1e9)
            else:
                rates.append(rows * CHOSEN * EXPERT_WEIGHTS / taken / 1e9)
                taken = sum(
                    seconds(part, {"x": np.ascontiguousarray(x[:, :inputs])})
                    for part, (_, inputs) in zip(parts, EXPERT_SHAPES, strict=True)
                )
                yardsticks.append(rows * EXPERT_WEIGHTS / taken / 1e9)
        best, yardstick = max(rates), max(yardsticks)
        click.echo(
            f"{rows} rows: {quickest * 1e3:.2f} ms, {best:.1f} {'GB/s' if reads else 'GMAC/s'}; "
            f"products {yardstick:.1f}; ratio {best / yardstick:.2f}"
        )


if __name__ == "__main__":
    main()
