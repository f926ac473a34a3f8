"""Synthetic graphs, fused and plain, that compute the next token by a formula over the KV cache.

Layer 0 stores each token as its key and (token + position) as its value. The score of token v after a prefix is a
function of sum(key * (7 * position % 11 + 1)) + 3 * sum(value * (position % 5 + 1)), so a key or value that is stale,
lost or of another row changes all later tokens. All numbers are integers that float32 represents exactly.

With `recurrent`, a second state is 5 * sum(token * (position % 3 + 1)), which each token updates in place. It is added
to the function, so a token that is missing or counted twice changes all later tokens too.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from manifests import chat_manifest
from onnx import TensorProto, helper, numpy_helper

from infrs.bundle import graph_signature as graph
from infrs.bundle.manifest import FileEntry, GraphKind, Manifest
from infrs.bundle.states import KVGeometry, LayerState, fixed_state
from infrs.engine.engine import Engine

VOCAB = 97
KINDS: tuple[GraphKind, ...] = ("fused", "plain")
EngineFactory = Callable[..., Engine]  # the fixture `new_engine`
KV_SHAPE = ["rows", 1, "capacity", 1]
PAST_STATE, PRESENT_STATE = "past_key_values.1.state", "present.1.state"
STATES = KVGeometry(num_layers=1, num_kv_heads=1, head_dim=1).states("float32")


FLOAT, INT32, INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64


class _Nodes:
    """Collect nodes and constants in the order in which they are added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: object, dtype: type = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(value, dtype=dtype), name))
        return name

    def op(self, kind: str, *inputs: str, output: str = "", **attributes: object) -> str:
        name = output or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name


def states(*, recurrent: bool = False) -> tuple[LayerState, ...]:
    """Return the states of the graph."""
    return (*STATES, fixed_state("recurrent", (1,))) if recurrent else STATES


def _border(kind: GraphKind, recurrent: bool) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    value = helper.make_tensor_value_info
    inputs = [value(graph.INPUT_IDS, INT64, ["batch", "sequence"])]
    if kind == "fused":
        inputs += [
            value(graph.SEQLENS_K, INT32, ["batch"]),
            value(graph.TOTAL_SEQUENCE_LENGTH, INT32, []),
            value(graph.LOGITS_INDICES, INT64, ["scored"]),
        ]
    else:
        inputs.append(value(graph.ATTENTION_MASK, INT64, ["batch", "total"]))
    inputs += [value(name, FLOAT, KV_SHAPE) for name in graph.past_names(STATES)]
    state = [value(name, FLOAT, ["rows", 1]) for name in (PAST_STATE, PRESENT_STATE)]
    if recurrent:
        inputs += [state[0], value(graph.ACTIVE_ROWS, FLOAT, ["batch"])]
    scores_shape = ["num_scored", VOCAB] if kind == "fused" else ["batch", "sequence", VOCAB]
    present = [value(name, FLOAT, ["rows", 1, "present", 1]) for name in graph.present_names(STATES)]
    return inputs, [value(graph.LOGITS, FLOAT, scores_shape), *present, *(state[1:] if recurrent else ())]


def build(path: Path, kind: GraphKind, *, recurrent: bool = False) -> None:
    """Write the graph to `path`, with the inputs and outputs of `infrs.bundle.graph_signature` for its kind."""
    fused = kind == "fused"
    built = _Nodes()
    constant, op = built.constant, built.op
    zero, one = constant(0, np.int64), constant(1, np.int64)
    size = op("Gather", op("Shape", graph.INPUT_IDS), one)
    past_key, past_value = graph.past_names(STATES)
    present_key, present_value = graph.present_names(STATES)
    past_length = op("Unsqueeze", op("Gather", op("Shape", past_key), constant(2, np.int64)), constant([0], np.int64))
    start = op("Sub", op("Add", op("Cast", graph.SEQLENS_K, to=INT64), one), size) if fused else past_length
    steps = op("Range", zero, size, one)
    positions = op(
        "Add", op("Unsqueeze", start, constant([1], np.int64)), op("Unsqueeze", steps, constant([0], np.int64))
    )
    axes = constant([1, 3], np.int64)
    indices = op("Unsqueeze", positions, axes)
    tokens = op("Cast", graph.INPUT_IDS, to=FLOAT)
    values = op("Add", tokens, op("Cast", positions, to=FLOAT))
    for past, present, new in ((past_key, present_key, tokens), (past_value, present_value, values)):
        update = op("Unsqueeze", new, axes)
        if fused:
            op("ScatterElements", past, indices, update, axis=2, output=present)
        else:
            op("Concat", past, update, axis=2, output=present)

    capacity = op("Gather", op("Shape", present_key), constant(2, np.int64))
    slots = op("Range", zero, capacity, one)
    visible = op(  # [B, S, capacity]
        "LessOrEqual",
        op("Unsqueeze", slots, constant([0, 1], np.int64)),
        op("Unsqueeze", positions, constant([2], np.int64)),
    )

    def weighted_sum(present: str, weights: str) -> str:
        stored = op("Squeeze", present, axes)  # [B, capacity]
        terms = op("Mul", stored, op("Cast", weights, to=FLOAT))
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
    if recurrent:
        state = op("Add", state, _recurrent(built, tokens, positions))
    whole = op("Cast", state, to=INT64)
    if fused:
        whole = op("Gather", op("Reshape", whole, constant([-1], np.int64)), graph.LOGITS_INDICES)
    vocab = constant(np.arange(VOCAB), np.int64)
    distance = op("Mod", op("Sub", vocab, op("Unsqueeze", whole, constant([-1], np.int64))), constant(VOCAB, np.int64))
    op("Div", op("Cast", distance, to=FLOAT), constant(-8.0), output=graph.LOGITS)

    # The formula does not use this input, but the graph signature has it.
    op("Identity", graph.TOTAL_SEQUENCE_LENGTH if fused else graph.ATTENTION_MASK)
    inputs, outputs = _border(kind, recurrent)
    model = helper.make_model(
        helper.make_graph(built.nodes, "synthetic", inputs, outputs, built.constants),
        opset_imports=[helper.make_opsetid("", 21)],
        ir_version=10,
    )
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _recurrent(built: _Nodes, tokens: str, positions: str) -> str:
    """Update the recurrent state, and return its value after each token [B, S]."""
    constant, op = built.constant, built.op
    weights = op("Add", op("Mod", positions, constant(3, np.int64)), constant(1, np.int64))
    terms = op("Mul", op("Mul", tokens, op("Cast", weights, to=FLOAT)), constant(5.0))
    active = op("Unsqueeze", graph.ACTIVE_ROWS, constant([1], np.int64))
    total = op("Mul", op("ReduceSum", terms, constant([1], np.int64)), active)
    op("Add", PAST_STATE, total, output=PRESENT_STATE)
    past = op("Sub", PRESENT_STATE, total)  # the past itself is overwritten in place
    return op("Add", past, op("CumSum", terms, constant(1, np.int64)))


def next_logits(tokens: list[int], *, recurrent: bool = False) -> np.ndarray:
    """Return the scores float32 [VOCAB] after `tokens`, by the same formula in Python."""
    state = sum(t * (7 * p % 11 + 1) + 3 * (t + p) * (p % 5 + 1) for p, t in enumerate(tokens))
    if recurrent:
        state += sum(5 * t * (p % 3 + 1) for p, t in enumerate(tokens))
    return (-((np.arange(VOCAB) - state) % VOCAB) / 8).astype(np.float32)


def greedy(prompt: list[int], count: int, *, recurrent: bool = False) -> list[int]:
    """Return the greedy continuation by the formula: the token equal to the state, modulo the vocabulary."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(next_logits(tokens, recurrent=recurrent).argmax()))
    return tokens[len(prompt) :]


def manifest(kind: GraphKind = "fused", *, recurrent: bool = False) -> Manifest:
    """Return a manifest for the graph as if exported. Its digests match no file."""
    return chat_manifest(
        "test/synthetic",
        architecture="synthetic",
        graph=kind,
        states=states(recurrent=recurrent),
        batch_invariant=kind == "fused",
        vocab_size=VOCAB,
        files={"model.onnx": FileEntry(size=1, sha256="0" * 64)},
    )


class Letters:
    """A decoder that writes token i as the i-th letter of a private alphabet, so that text shows tokens."""

    def feed(self, token_id: int) -> str:
        return chr(0x4E00 + token_id)

    def flush(self) -> str:
        return ""


def letters(token_ids: list[int]) -> str:
    """Return the text that `Letters` decodes from the ids."""
    return "".join(chr(0x4E00 + token_id) for token_id in token_ids)
