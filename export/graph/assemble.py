"""Turn a traced graph into a bundle's graph: lower its weights one by one and stream them to the data file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from ..recipes.domains import MICROSOFT, NATIVE
from ..recipes.experts import ExpertWeights, Routing
from ..recipes.lowering import Lowered, Lowering, Weight
from .fusions.functions import functions
from .fusions.ops import DOMAIN
from .tensor_file import TensorFile

OPSETS = {"": 18, MICROSOFT: 1, NATIVE: 1}
IR_VERSION = 10


class Assembler:
    """A collector of the nodes and initializers of one graph, which it writes to a file."""

    def __init__(self, lowering: Lowering, data: TensorFile) -> None:
        self._lowering = lowering
        self._data = data
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}

    def store(self, name: str, array: NDArray[Any]) -> None:
        """Add an initializer, unless there is one with this name already."""
        if name not in self._initializers:
            self._initializers[name] = self._data.add(name, array)

    def add(self, node: onnx.NodeProto) -> None:
        """Add a node as it is; a constant becomes an initializer."""
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            self.store(node.output[0], numpy_helper.to_array(node.attribute[0].t))
        else:
            self._nodes.append(node)

    def linear(self, weight: Weight, x: str, y: str) -> None:
        """Add a product as the recipe stores it."""
        self._lowered(self._lowering.linear(weight, x, y))

    def embedding(self, weight: Weight, ids: str, y: str) -> None:
        """Add an embedding as the recipe stores it."""
        self._lowered(self._lowering.embedding(weight, ids, y))

    def experts(self, weights: ExpertWeights, routing: Routing, y: str) -> None:
        """Add a mixture of experts as the recipe stores it."""
        self._lowered(self._lowering.experts(weights, routing, y))

    def _lowered(self, lowered: Lowered) -> None:
        for tensor in lowered.tensors:
            self.store(tensor.name, tensor.array)
        self._nodes += lowered.nodes

    def finish(self, traced: onnx.ModelProto, path: Path) -> int:
        """Write the graph with the inputs and outputs of `traced`. Return its number of nodes."""
        graph = onnx.helper.make_graph(
            self._nodes, "main", list(traced.graph.input), list(traced.graph.output), list(self._initializers.values())
        )
        opsets = dict(OPSETS)
        opsets.update({opset.domain: opset.version for opset in traced.opset_import if opset.domain != DOMAIN})
        model = onnx.helper.make_model(
            graph,
            opset_imports=[onnx.helper.make_opsetid(domain, version) for domain, version in sorted(opsets.items())],
            producer_name="infrs",
            functions=functions(self._nodes, opsets, {name: each.dims for name, each in self._initializers.items()}),
            ir_version=IR_VERSION,
        )
        path.write_bytes(model.SerializeToString(deterministic=True))
        return len(self._nodes)


def attribute(node: onnx.NodeProto, name: str) -> str:
    """Return a string attribute of a placeholder."""
    return str(next(item.s.decode() for item in node.attribute if item.name == name))
