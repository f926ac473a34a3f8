"""A graph with one layer of the attention operator that real fused graphs consist of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import synthetic
from onnx import TensorProto, helper, numpy_helper

from infrs.bundle import graph_signature as graph
from infrs.bundle.manifest import Manifest
from infrs.bundle.states import KVGeometry

HEADS, DIM = 2, 16
GEOMETRY = KVGeometry(num_layers=1, num_kv_heads=HEADS, head_dim=DIM)


def build(path: Path) -> None:
    """Write a graph to `path`: an embedding, GroupQueryAttention with rotary positions, and scores."""
    rng = np.random.default_rng(0)
    width, length = HEADS * DIM, 1 << 17
    angles = np.outer(np.arange(length), 100.0 ** -(np.arange(DIM // 2) / DIM))
    weights = {
        "embedding": rng.standard_normal((synthetic.VOCAB, 3 * width)),
        "cos": np.cos(angles),
        "sin": np.sin(angles),
        "head": rng.standard_normal((width, synthetic.VOCAB)),
    }
    states = GEOMETRY.states("float32")
    (past_key, past_value), present = graph.past_names(states), graph.present_names(states)
    lengths = [graph.SEQLENS_K, graph.TOTAL_SEQUENCE_LENGTH]
    nodes = [
        helper.make_node("Gather", ["embedding", graph.INPUT_IDS], ["qkv"]),
        helper.make_node(
            "GroupQueryAttention",
            ["qkv", "", "", past_key, past_value, *lengths, "cos", "sin"],
            ["attended", *present],
            domain="com.microsoft",
            num_heads=HEADS,
            kv_num_heads=HEADS,
            do_rotary=1,
        ),
        helper.make_node("Reshape", ["attended", "flat_shape"], ["flat"]),
        helper.make_node("Gather", ["flat", graph.LOGITS_INDICES], ["scored"]),
        helper.make_node("MatMul", ["scored", "head"], [graph.LOGITS]),
    ]
    kv_shape = ["rows", HEADS, "capacity", DIM]
    float32, int64, int32 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32
    value = helper.make_tensor_value_info
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "attention",
            [
                value(graph.INPUT_IDS, int64, ["batch", "sequence"]),
                value(graph.SEQLENS_K, int32, ["batch"]),
                value(graph.TOTAL_SEQUENCE_LENGTH, int32, []),
                value(graph.LOGITS_INDICES, int64, ["scored"]),
                *(value(name, float32, kv_shape) for name in graph.past_names(states)),
            ],
            [
                value(graph.LOGITS, float32, ["num_scored", synthetic.VOCAB]),
                *(value(name, float32, kv_shape) for name in present),
            ],
            [
                *(numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()),
                numpy_helper.from_array(np.array([-1, width], np.int64), "flat_shape"),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)],
        ir_version=10,
    )
    onnx.save(model, path)


def manifest(*, blocks: bool = False) -> Manifest:
    """Return the synthetic manifest with this graph's geometry; `blocks`: as for weights in blocks of 8 or 4 bits."""
    states = GEOMETRY.states("float16" if blocks else "float32")
    return synthetic.manifest().model_copy(update={"states": states, "chunk_invariant": blocks})
