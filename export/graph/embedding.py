"""Convert an embedding model to ONNX: Optimum's graph of the transformer, with infrs's inputs and pooling.

The graph takes `input_ids` only (`infrs.bundle.graph_signature`) and derives the other inputs from them: a run never
holds padding, so the attention mask is ones. The parity check compares the whole graph with PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper
from torch import nn

from infrs.bundle.graph_signature import EMBEDDING, INPUT_IDS
from infrs.bundle.manifest import Pooling

from ..recipes.domains import MICROSOFT
from ..recipes.lowering import Lowering, Weight
from ..sources.embeddings.layout import Dense
from .assemble import Assembler
from .border import replace_border
from .convert import DATA_FILE, GRAPH_FILE, trace_with_optimum
from .plain_graph import lower_plain
from .sentence_encoder import SentenceEncoder
from .tensor_file import TensorFile

_HIDDEN = "last_hidden_state"


def convert_embedding(
    encoder: SentenceEncoder, directory: Path, lowering: Lowering, progress: Callable[[str, int, int], None]
) -> None:
    """Write `encoder` (float32, CPU) as `model.onnx` and `model.onnx.data` into `directory`, which exists.

    Raises ExportError.
    """
    progress("trace", 0, 1)
    traced = trace_with_optimum(encoder.transformer, "feature-extraction", directory)
    progress("trace", 1, 1)
    replace_border(traced.graph, EMBEDDING, encoder.dimensions)
    with TensorFile(directory / DATA_FILE) as data:
        assembler = Assembler(lowering, data)
        lower_plain(traced.graph, assembler, lambda done, total: progress("weights", done, total))
        _add_pooling(encoder, assembler)
        assembler.finish(traced, directory / GRAPH_FILE)


def _add_pooling(encoder: SentenceEncoder, assembler: Assembler) -> None:
    """Add nodes that pool token vectors [B, S, H] to text vectors [B, dimensions]."""
    assembler.store("pooling/axis", np.array([1]))
    value = _pool(assembler, encoder.layout.pooling)
    products = iter(encoder.dense)
    for index, step in enumerate(encoder.layout.steps):
        if isinstance(step, Dense):
            value = _add_dense(assembler, f"dense_{index}", next(products), step, value)
        else:
            name = f"normalize_{index}"
            assembler.add(helper.make_node("LpNormalization", [value], [name], name=name, axis=-1, p=2))
            value = name
    assembler.add(helper.make_node("Identity", [value], [EMBEDDING], name="embedding"))


def _pool(assembler: Assembler, pooling: Pooling) -> str:
    """Add nodes that make one vector of each text's token vectors. Return the name of the result."""
    token = {"cls": 0, "lasttoken": -1}
    whole = {"mean": "ReduceMean", "max": "ReduceMax", "weightedmean": "ReduceSum", "mean_sqrt_len": "ReduceMean"}
    if pooling in token:
        assembler.store("pooling/token", np.array(token[pooling]))
        assembler.add(helper.make_node("Gather", [_HIDDEN, "pooling/token"], ["pooled"], name="pooling", axis=1))
        return "pooled"
    hidden = _weigh(assembler) if pooling == "weightedmean" else _HIDDEN
    assembler.add(helper.make_node(whole[pooling], [hidden, "pooling/axis"], ["pooled"], name="pooling", keepdims=0))
    if pooling != "mean_sqrt_len":
        return "pooled"
    _add_all(
        assembler,
        [
            ("Shape", [INPUT_IDS], "pooling/length", {"start": 1, "end": 2}),
            ("Cast", ["pooling/length"], "pooling/count", {"to": TensorProto.FLOAT}),
            ("Sqrt", ["pooling/count"], "pooling/root", {}),
            ("Mul", ["pooled", "pooling/root"], "pooled/scaled", {}),
        ],
    )
    return "pooled/scaled"


def _weigh(assembler: Assembler) -> str:
    """Add nodes that multiply each token vector by its place, from 1, divided by the sum of all places."""
    assembler.store("pooling/one", np.array(1))
    _add_all(
        assembler,
        [
            ("Shape", [INPUT_IDS], "pooling/length", {"start": 1, "end": 2}),
            ("Squeeze", ["pooling/length"], "pooling/number", {}),
            ("Add", ["pooling/number", "pooling/one"], "pooling/end", {}),
            ("Range", ["pooling/one", "pooling/end", "pooling/one"], "pooling/places", {}),
            ("Cast", ["pooling/places"], "pooling/counts", {"to": TensorProto.FLOAT}),
            ("ReduceSum", ["pooling/counts"], "pooling/sum", {"keepdims": 1}),
            ("Div", ["pooling/counts", "pooling/sum"], "pooling/shares", {}),
            ("Unsqueeze", ["pooling/shares", "pooling/axis"], "pooling/weights", {}),
            ("Mul", [_HIDDEN, "pooling/weights"], "pooling/weighted", {}),
        ],
    )
    return "pooling/weighted"


def _add_dense(assembler: Assembler, name: str, linear: nn.Module, dense: Dense, value: str) -> str:
    """Add a product and its activation. Return the name of the result."""
    tensors = {key: tensor.numpy() for key, tensor in linear.state_dict().items()}
    assembler.linear(Weight(name, f"{name}.weight", tensors["weight"], tensors.get("bias")), value, f"{name}/sum")
    operator = {"ReLU": "Relu", "GELU": "Gelu", "SiLU": "Sigmoid"}.get(dense.activation, dense.activation)
    domain = MICROSOFT if operator == "Gelu" else ""  # ONNX has it from opset 20
    output = f"{name}/activated"
    node = helper.make_node(operator, [f"{name}/sum"], [output], name=f"{name}/activation", domain=domain)
    assembler.add(node)
    if dense.activation == "SiLU":
        _add_all(assembler, [("Mul", [f"{name}/sum", output], f"{name}/gated", {})])
        return f"{name}/gated"
    return output


def _add_all(assembler: Assembler, nodes: list[tuple[str, list[str], str, dict[str, Any]]]) -> None:
    """Add nodes: operator, inputs, output and attributes of each. A node has the name of its output."""
    for operator, inputs, output, attributes in nodes:
        assembler.add(helper.make_node(operator, inputs, [output], name=output, **attributes))
