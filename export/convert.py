"""transformers model -> ONNX graph, through Optimum."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import numpy_helper
from optimum.exporters.onnx import onnx_export_from_model
from transformers import PreTrainedModel

from infrs.manifest import GraphKind, KVGeometry

from .assemble import Assembler, attribute
from .fusions.graph import fuse_residual_norms
from .fusions.ops import DOMAIN
from .lowering import Lowering
from .tensor_file import TensorFile
from .trace import OPSET, FusedOnnxConfig
from .weights import ModelWeights

GRAPH_FILE = "model.onnx"
DATA_FILE = "model.onnx.data"

Progress = Callable[[str, int, int], None]  # stage, done, total


@dataclass(frozen=True)
class Conversion:
    """What `convert` wrote. reason: why the graph is plain, empty when it is fused."""

    graph: GraphKind
    graph_file: str
    data_file: str
    reason: str
    kv: KVGeometry
    vocab_size: int
    context_length: int
    num_nodes: int


def convert(
    model: PreTrainedModel,
    directory: Path,
    lowering: Lowering,
    *,
    context_length: int | None = None,
    progress: Progress | None = None,
) -> Conversion:
    """Write `model` (float32, CPU) as `model.onnx` and `model.onnx.data` into `directory`, which exists.

    context_length: longest sequence that the graph must serve; default the config's own.
    The model's weights are not changed. Raises ExportError.
    """
    limit = context_length or int(model.config.max_position_embeddings)
    kv = kv_geometry(model)
    with tempfile.TemporaryDirectory(dir=directory, prefix=".trace-") as temporary:
        traced = _trace(model, FusedOnnxConfig(model.config, kv, limit), Path(temporary))
    fuse_residual_norms(traced.graph)
    with TensorFile(directory / DATA_FILE) as data:
        assembler = Assembler(lowering, data)
        _lower_fused(traced.graph, assembler, ModelWeights(model), progress)
        num_nodes = assembler.finish(traced, directory / GRAPH_FILE)
    return Conversion("fused", GRAPH_FILE, DATA_FILE, "", kv, int(model.config.vocab_size), limit, num_nodes)


def kv_geometry(model: PreTrainedModel) -> KVGeometry:
    """Layers, key/value heads and head width of the model."""
    config = model.config
    heads = int(config.num_attention_heads)
    return KVGeometry(
        num_layers=int(config.num_hidden_layers),
        num_kv_heads=int(getattr(config, "num_key_value_heads", None) or heads),
        head_dim=int(getattr(config, "head_dim", None) or config.hidden_size // heads),
    )


def _trace(model: PreTrainedModel, config: FusedOnnxConfig, directory: Path) -> onnx.ModelProto:
    name = model.config._name_or_path
    model.config._name_or_path = str(directory)  # Optimum looks there for a tokenizer to copy; the Hub is not asked
    try:
        onnx_export_from_model(
            model,
            output=directory,
            task="text-generation-with-past",
            custom_onnx_configs={"model": config},
            opset=OPSET,
            do_validation=False,
            no_post_process=True,
        )
    finally:
        model.config._name_or_path = name
    return onnx.load(directory / "model.onnx")


def _lower_fused(
    graph: onnx.GraphProto, assembler: Assembler, weights: ModelWeights, progress: Progress | None
) -> None:
    for tensor in graph.initializer:
        assembler.store(tensor.name, numpy_helper.to_array(tensor))
    total = sum(node.domain == DOMAIN for node in graph.node)
    done = 0
    for node in graph.node:
        if node.domain != DOMAIN:
            assembler.add(node)
            continue
        weight = weights.get(attribute(node, "weight"), attribute(node, "modules").split())
        lower = assembler.linear if node.op_type == "Linear" else assembler.embedding
        lower(weight, node.input[0], node.output[0])
        done += 1
        if progress:
            progress("weights", done, total)
