"""The inputs and outputs of an encoder's graph: `input_ids` of one text per run, without padding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from infrs.bundle.graph_signature import ATTENTION_MASK, INPUT_IDS
from infrs.errors import ExportError

_SHAPE, _LENGTH, _ZERO, _ONE = "input_ids/shape", "input_ids/length", "input_ids/zero", "input_ids/one"


def replace_border(graph: onnx.GraphProto, output: str, width: int, kept: Sequence[str] = ()) -> None:
    """Give a graph the inputs `input_ids` and `kept` and an output [B, width]; the other inputs become nodes.

    Raises ExportError for an input that cannot be derived from `input_ids`.
    """
    inputs = [INPUT_IDS, *kept]
    nodes = [
        helper.make_node("Shape", [INPUT_IDS], [_SHAPE]),
        helper.make_node("Shape", [INPUT_IDS], [f"{_LENGTH}/vector"], start=1, end=2),
        helper.make_node("Squeeze", [f"{_LENGTH}/vector"], [_LENGTH]),
    ]
    graph.initializer.extend(
        [numpy_helper.from_array(np.array(value), name) for value, name in ((0, _ZERO), (1, _ONE))]
    )
    for name in (item.name for item in graph.input if item.name not in inputs):
        match name:
            case "attention_mask" | "token_type_ids":
                filled = helper.make_tensor("value", TensorProto.INT64, [1], [int(name == ATTENTION_MASK)])
                nodes.append(helper.make_node("ConstantOfShape", [_SHAPE], [name], value=filled))
            case "position_ids":
                nodes.append(helper.make_node("Range", [_ZERO, _LENGTH, _ONE], [f"{name}/row"]))
                nodes.append(helper.make_node("Expand", [f"{name}/row", _SHAPE], [name]))
            case _:
                raise ExportError(
                    f"the graph of this architecture needs {name}, which infrs does not have; try another model"
                )
    for index, node in enumerate(nodes):
        node.name = f"input_ids/border_{index}"
        graph.node.insert(index, node)
    del graph.input[:]
    graph.input.extend(
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in inputs]
    )
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", width]))
