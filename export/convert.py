"""transformers model -> ONNX graph, through Optimum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel

from infrs.manifest import GraphKind, KVGeometry

from .lowering import Lowering

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
    raise NotImplementedError  # interface first: the recipes and the engine build on it meanwhile
