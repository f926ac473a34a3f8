"""Optimum's plain graph, for architectures that the fused graph does not cover, with the recipe's weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from infrs.bundle.graph_signature import LOGITS

from ..recipes.lowering import Weight
from .assemble import Assembler

_PRODUCTS = ("MatMul", "Gemm")


def lower_plain(graph: onnx.GraphProto, assembler: Assembler, progress: Callable[[int, int], None]) -> None:
    """Add the nodes of `graph`. Lower products by a constant matrix, and embeddings, as the recipe stores them."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    weights = _PlainWeights(constants)
    total = sum(weights.lowers(node) for node in graph.node)
    kept: set[str] = set()
    done = 0
    for node in graph.node:
        if not weights.lowers(node):
            kept.update(_reads(node))
            assembler.add(node)
            continue
        weight = weights.get(node)
        if node.op_type == "Gather":
            assembler.embedding(weight, node.input[1], node.output[0])
        else:
            assembler.linear(weight, node.input[0], node.output[0])
        done += 1
        progress(done, total)
    for name, tensor in constants.items():
        if name in kept:
            assembler.store(name, numpy_helper.to_array(tensor))


class _PlainWeights:
    """The constant matrices of a graph as named `Weight`s."""

    def __init__(self, constants: dict[str, onnx.TensorProto]) -> None:
        self._constants = constants
        self._sources: dict[bytes, str] = {}
        self._names: set[str] = set()

    def lowers(self, node: onnx.NodeProto) -> bool:
        """Return whether `node` multiplies by a constant float matrix or looks up its rows."""
        if node.op_type not in (*_PRODUCTS, "Gather") or node.domain:
            return False
        tensor = self._constants.get(node.input[0 if node.op_type == "Gather" else 1])
        if tensor is None or tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) != 2:
            return False
        attributes = _attributes(node)
        if node.op_type == "Gather":
            return bool(attributes.get("axis", 0) == 0)
        return (attributes.get("transA", 0), attributes.get("alpha", 1.0), attributes.get("beta", 1.0)) == (
            0,
            1.0,
            1.0,
        ) and all(name in self._constants and len(self._constants[name].dims) == 1 for name in node.input[2:])

    def get(self, node: onnx.NodeProto) -> Weight:
        """Return the weight of `node`, [outputs, inputs]."""
        embedding = node.op_type == "Gather"
        array = numpy_helper.to_array(self._constants[node.input[0 if embedding else 1]])
        if not embedding and not _attributes(node).get("transB", 0):
            array = np.ascontiguousarray(array.T)
        bias = numpy_helper.to_array(self._constants[node.input[2]]) if len(node.input) == 3 else None
        return Weight(self._name(node), self._source(node, array), array, bias)

    def _source(self, node: onnx.NodeProto, array: NDArray[np.float32]) -> str:
        """Return the first name of a matrix with these values: the exporter writes tied weights twice."""
        digest = hashlib.sha256(array.reshape(-1).view(np.uint8).data).digest()
        return self._sources.setdefault(digest, f"{self._base(node)}.weight")

    @staticmethod
    def _base(node: onnx.NodeProto) -> str:
        if LOGITS in node.output:
            return "lm_head"
        return node.name.rpartition("/")[0].strip("/").replace("/", ".") or node.output[0]

    def _name(self, node: onnx.NodeProto) -> str:
        name = self._base(node)
        while name in self._names:
            name += "_"
        self._names.add(name)
        return name


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names that `node` and its subgraphs read."""
    yield from node.input
    graphs: Iterable[onnx.GraphProto] = (item.g for item in node.attribute if item.HasField("g"))
    for graph in graphs:
        for inner in graph.node:
            yield from _reads(inner)
