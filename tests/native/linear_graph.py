"""Graphs of one `Linear` node."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
from infrs_export.graph.fusions.functions import functions
from kernel_graphs import FLOAT, graph_of
from onnx import helper

DTYPES = {name: np.dtype(name) for name in ("float32", "float16")} | {"bfloat16": np.dtype(ml_dtypes.bfloat16)}


def model(weights: npt.NDArray[Any], input_bits: int = 32) -> onnx.ModelProto:
    """Return a graph of a product with weights [N, K]."""
    made = graph_of(
        "Linear",
        {"x": (FLOAT, ["batch", "rows", "inputs"]), "weight": weights},
        {"y": ["batch", "rows", "outputs"]},
        {"input_bits": input_bits},
    )
    made.graph.node[0].domain = "infrs.native"
    made.opset_import.append(helper.make_opsetid("infrs.native", 1))
    made.functions.extend(functions(made.graph.node, {each.domain: each.version for each in made.opset_import}))
    return made
