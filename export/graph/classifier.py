"""Convert a sequence classifier to ONNX: Optimum's graph, with infrs's inputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from transformers import PreTrainedModel

from infrs.bundle.graph_signature import LOGITS, TOKEN_TYPE_IDS

from ..recipes.lowering import Lowering
from .assemble import Assembler
from .border import replace_border
from .convert import DATA_FILE, GRAPH_FILE, trace_with_optimum
from .plain_graph import lower_plain
from .tensor_file import TensorFile


def convert_classifier(
    model: PreTrainedModel,
    directory: Path,
    lowering: Lowering,
    progress: Callable[[str, int, int], None],
    *,
    token_types: bool,
) -> None:
    """Write `model` (float32, CPU) as `model.onnx` and `model.onnx.data` into `directory`, which exists.

    token_types: whether the graph takes the types of tokens; otherwise they are 0. Raises ExportError.
    """
    progress("trace", 0, 1)
    traced = trace_with_optimum(model, "text-classification", directory)
    progress("trace", 1, 1)
    replace_border(traced.graph, LOGITS, int(model.config.num_labels or 0), [TOKEN_TYPE_IDS] if token_types else [])
    with TensorFile(directory / DATA_FILE) as data:
        assembler = Assembler(lowering, data)
        lower_plain(traced.graph, assembler, lambda done, total: progress("weights", done, total))
        assembler.finish(traced, directory / GRAPH_FILE)
