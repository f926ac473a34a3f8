"""A synthetic fused graph whose next token is a formula read back through the KV cache.

Layer 0 stores each token as its key and (token + position) as its value. The score of token v after a prefix is a
function of sum(key * (7 * position % 11 + 1)) + 3 * sum(value * (position % 5 + 1)), so a key or value that is stale,
lost or of another row changes every answer from there on. All numbers are integers that float32 holds exactly.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from infrs import graph
from infrs.manifest import Manifest

VOCAB = 97
KV_SHAPE = ["rows", 1, "capacity", 1]


def build(path: Path) -> None:
    """Write the graph to `path`, with the inputs and outputs that `infrs.graph` describes."""
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def constant(value: object, dtype: type = np.float32) -> str:
        name = f"c{len(constants)}"
        constants.append(numpy_helper.from_array(np.array(value, dtype=dtype), name))
        return name

    def op(kind: str, *inputs: str, output: str = "", **attributes: object) -> str:
        name = output or f"n{len(nodes)}"
        nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    int64 = TensorProto.INT64
    zero, one = constant(0, np.int64), constant(1, np.int64)
    size = op("Gather", op("Shape", graph.INPUT_IDS), one)
    last = op("Cast", graph.SEQLENS_K, to=int64)
    start = op("Sub", op("Add", last, one), size)
    steps = op("Range", zero, size, one)
    positions = op(
        "Add", op("Unsqueeze", start, constant([1], np.int64)), op("Unsqueeze", steps, constant([0], np.int64))
    )
    axes = constant([1, 3], np.int64)
    indices = op("Unsqueeze", positions, axes)
    tokens = op("Cast", graph.INPUT_IDS, to=TensorProto.FLOAT)
    values = op("Add", tokens, op("Cast", positions, to=TensorProto.FLOAT))
    past_key, past_value = graph.past_names(1)
    present_key, present_value = graph.present_names(1)
    op("ScatterElements", past_key, indices, op("Unsqueeze", tokens, axes), axis=2, output=present_key)
    op("ScatterElements", past_value, indices, op("Unsqueeze", values, axes), axis=2, output=present_value)

    capacity = op("Gather", op("Shape", past_key), constant(2, np.int64))
    slots = op("Range", zero, capacity, one)
    visible = op(  # [B, S, capacity]
        "LessOrEqual",
        op("Unsqueeze", slots, constant([0, 1], np.int64)),
        op("Unsqueeze", positions, constant([2], np.int64)),
    )

    def weighted_sum(present: str, weights: str) -> str:
        stored = op("Squeeze", present, axes)  # [B, capacity]
        terms = op("Mul", stored, op("Cast", weights, to=TensorProto.FLOAT))
        masked = op("Where", visible, op("Unsqueeze", terms, constant([1], np.int64)), constant(0.0))
        return op("ReduceSum", masked, constant([2], np.int64), keepdims=0)  # [B, S]

    seven, eleven, five = (constant(n, np.int64) for n in (7, 11, 5))
    key_weights = op("Add", op("Mod", op("Mul", slots, seven), eleven), one)
    value_weights = op("Add", op("Mod", slots, five), one)
    state = op(
        "Add",
        weighted_sum(present_key, key_weights),
        op("Mul", weighted_sum(present_value, value_weights), constant(3.0)),
    )
    flat = op("Reshape", state, constant([-1], np.int64))
    scored = op("Cast", op("Gather", flat, graph.LOGITS_INDICES), to=int64)
    vocab = constant(np.arange(VOCAB), np.int64)
    distance = op("Mod", op("Sub", vocab, op("Unsqueeze", scored, constant([1], np.int64))), constant(VOCAB, np.int64))
    op("Div", op("Cast", distance, to=TensorProto.FLOAT), constant(-8.0), output=graph.LOGITS)

    inputs = [
        helper.make_tensor_value_info(graph.INPUT_IDS, int64, ["batch", "sequence"]),
        helper.make_tensor_value_info(graph.SEQLENS_K, TensorProto.INT32, ["batch"]),
        helper.make_tensor_value_info(graph.TOTAL_SEQUENCE_LENGTH, TensorProto.INT32, []),
        helper.make_tensor_value_info(graph.LOGITS_INDICES, int64, ["scored"]),
        *(helper.make_tensor_value_info(name, TensorProto.FLOAT, KV_SHAPE) for name in graph.past_names(1)),
    ]
    outputs = [
        helper.make_tensor_value_info(graph.LOGITS, TensorProto.FLOAT, ["scored", VOCAB]),
        *(helper.make_tensor_value_info(name, TensorProto.FLOAT, KV_SHAPE) for name in graph.present_names(1)),
    ]
    # The total length is part of the border but of no use to this formula: an Identity keeps it an input.
    op("Identity", graph.TOTAL_SEQUENCE_LENGTH)
    model = helper.make_model(
        helper.make_graph(nodes, "synthetic", inputs, outputs, constants),
        opset_imports=[helper.make_opsetid("", 21)],
        ir_version=10,
    )
    onnx.checker.check_model(model)
    onnx.save(model, path)


def next_logits(tokens: list[int]) -> np.ndarray:
    """The same formula in plain Python: float32 [VOCAB] after `tokens`."""
    state = sum(t * (7 * p % 11 + 1) + 3 * (t + p) * (p % 5 + 1) for p, t in enumerate(tokens))
    return (-((np.arange(VOCAB) - state) % VOCAB) / 8).astype(np.float32)


def greedy(prompt: list[int], count: int) -> list[int]:
    """The greedy continuation by the formula: the token equal to the state, modulo the vocabulary."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(next_logits(tokens).argmax()))
    return tokens[len(prompt) :]


def manifest() -> Manifest:
    """A manifest for the graph as if exported; its digests are of no file."""
    digest = "0" * 64
    return Manifest.model_validate(
        {
            "source": {"kind": "local", "model_id": "test/synthetic", "revision": "main"},
            "dtype": "float32",
            "recipe": {"name": "synthetic", "options": {}, "hash": digest},
            "architecture": "synthetic",
            "graph": "fused",
            "graph_file": "model.onnx",
            "kv": {"num_layers": 1, "num_kv_heads": 1, "head_dim": 1},
            "vocab_size": VOCAB,
            "context_length": 512,
            "special_tokens": {"bos": None, "eos": (0,)},
            "files": {"model.onnx": {"size": 1, "sha256": digest}},
            "tool_versions": {},
            "parity": {},
            "created": "2026-01-01T00:00:00Z",
        }
    )


class Letters:
    """A decoder that writes token i as the i-th letter of a private alphabet, so that text shows tokens."""

    def feed(self, token_id: int) -> str:
        return chr(0x4E00 + token_id)

    def flush(self) -> str:
        return ""


def letters(token_ids: list[int]) -> str:
    """What `Letters` makes of the ids."""
    return "".join(chr(0x4E00 + token_id) for token_id in token_ids)
