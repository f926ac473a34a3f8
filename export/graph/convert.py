"""transformers model -> ONNX graph, through Optimum: fused where the architecture is known, plain elsewhere."""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from infrs.bundle.manifest import GraphKind
from infrs.bundle.states import LayerState
from infrs.errors import ExportError

from ..bundle.publish import full_disk_explained
from ..recipes.experts import Routing
from ..recipes.lowering import Lowering
from ..replaced import replaced
from ..sources.config_check import first_line
from .assemble import Assembler, attribute
from .fusions.architectures import default_context, fix_rope_factors, longest_context, states, why_plain
from .fusions.experts import gate_of, is_experts
from .fusions.ops import DOMAIN
from .fusions.recurrent.layers import recurrent_kind
from .fusions.rewrites import fuse_residual_norms
from .optimum_export import trace
from .plain_graph import lower_plain
from .plain_trace import PlainOnnxConfig
from .tensor_file import TensorFile
from .trace import FusedOnnxConfig, declare_lengths
from .weights import ModelWeights

GRAPH_FILE = "model.onnx"
DATA_FILE = "model.onnx.data"

Progress = Callable[[str, int, int], None]  # stage ("trace", "weights"), done, total


@dataclass(frozen=True)
class Conversion:
    """The result of `convert`. reason: why the graph is plain; empty if it is fused. states: as float32.

    has_moe: in a dtype of floats, experts are ONNX Runtime's operator MoE.
    """

    graph: GraphKind
    graph_file: str
    data_file: str
    reason: str
    states: tuple[LayerState, ...]
    vocab_size: int
    context_length: int
    num_nodes: int
    has_moe: bool = False


def convert(
    model: PreTrainedModel,
    directory: Path,
    lowering: Lowering,
    *,
    context_length: int | None = None,
    moments: Mapping[str, NDArray[np.float32]] | None = None,
    progress: Progress | None = None,
) -> Conversion:
    """Write `model` (float32, CPU) as `model.onnx` and `model.onnx.data` into `directory`, which exists.

    context_length: longest sequence that the graph must serve; default `default_context`.
    moments: of the products' inputs, by the names of the weights' parameters (`calibration`).
    The model's weights are not changed; `fix_rope_factors` sets its rotary tables. Raises ExportError.
    """
    if getattr(model.config, "quantization_config", None):
        raise ExportError("this model's weights are quantised already; export the original model instead")
    if others := {str(parameter.dtype) for parameter in model.parameters()} - {"torch.float32"}:
        raise ExportError(f"convert needs float32 weights, not {', '.join(sorted(others))}; load the model as float32")
    progress = progress or (lambda stage, done, total: None)
    context_length = _context_length(model, context_length)
    fix_rope_factors(model, context_length)
    reason = why_plain(model)
    experts = [module for module in model.modules() if is_experts(module)]
    if reason and experts:
        raise ExportError(f"infrs exports mixtures of experts only as a fused graph, and {reason}; try another model")
    if reason and any(map(recurrent_kind, model.modules())):
        raise ExportError(f"infrs exports layers with a state of a fixed size only as a fused graph, and {reason}")
    config = PlainOnnxConfig(model) if reason else FusedOnnxConfig(model.config, states(model), context_length)
    progress("trace", 0, 1)
    traced = trace_with_optimum(model, "text-generation-with-past", directory, config)
    progress("trace", 1, 1)
    with TensorFile(directory / DATA_FILE) as data:
        assembler = Assembler(lowering, data)
        if reason:
            lower_plain(traced.graph, assembler, partial(progress, "weights"))
        else:
            declare_lengths(traced.graph)
            fuse_residual_norms(traced.graph)
            _lower_fused(traced.graph, assembler, ModelWeights(model, moments or {}), partial(progress, "weights"))
        num_nodes = assembler.finish(traced, directory / GRAPH_FILE)
    return Conversion(
        graph="plain" if reason else "fused",
        graph_file=GRAPH_FILE,
        data_file=DATA_FILE,
        reason=reason,
        states=config.states,
        vocab_size=int(model.config.vocab_size),
        context_length=context_length,
        num_nodes=num_nodes,
        has_moe=any(not gate_of(module).cubic for module in experts),
    )


def _context_length(model: PreTrainedModel, asked: int | None) -> int:
    longest = longest_context(model.config)
    if longest is None and asked is None:
        raise ExportError(
            "this model's config names no longest context: choose a context length", param="context_length"
        )
    if asked is not None and not 1 <= asked <= (longest or asked):
        raise ExportError(
            f"a context of {asked} tokens is not possible, this model serves 1 to {longest}: choose one within",
            param="context_length",
        )
    return asked or default_context(model.config) or 0


def trace_with_optimum(
    model: PreTrainedModel, task: str, directory: Path, config: FusedOnnxConfig | PlainOnnxConfig | None = None
) -> onnx.ModelProto:
    """Run Optimum's exporter with `config`, or with Optimum's own config for the architecture and `task`.

    directory: for temporary files. Raises DiskFullError, ExportError.
    """
    name = model.config._name_or_path
    with tempfile.TemporaryDirectory(dir=directory, prefix=".trace-") as temporary:
        model.config._name_or_path = temporary  # Optimum looks there for a tokenizer to copy; the Hub is not asked
        try:
            with full_disk_explained(directory), _quiet():
                trace(model, task, Path(temporary), config)
        except ExportError:  # a disk error, not a fault of the model
            raise
        except Exception as error:
            if "custom or unsupported architecture" in str(error):
                raise ExportError(f"infrs cannot export {model.config.model_type} models; try another one") from error
            raise ExportError(
                f"Optimum could not export {model.config.model_type}: {first_line(error)}; try another model"
            ) from error
        finally:
            model.config._name_or_path = name
        return onnx.load(Path(temporary) / "model.onnx")


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress messages for the exporter's authors.

    They are tracer warnings, those of transformers about the tokenizer, and the graph that PyTorch prints on a failure.
    """
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings(), replaced(torch._C, "_jit_onnx_log", lambda *_: None):
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)


def _lower_fused(
    graph: onnx.GraphProto, assembler: Assembler, weights: ModelWeights, progress: Callable[[int, int], None]
) -> None:
    for tensor in graph.initializer:
        assembler.store(tensor.name, numpy_helper.to_array(tensor))
    total = sum(node.domain == DOMAIN for node in graph.node)
    done = 0
    uses = Counter[str]()
    for node in graph.node:
        if node.domain != DOMAIN:
            assembler.add(node)
            continue
        if node.op_type == "Experts":
            assembler.experts(weights.experts(attribute(node, "weight")), Routing(*node.input), node.output[0])
        else:
            groups = json.loads(attribute(node, "groups"))
            weight = weights.get(attribute(node, "weight"), attribute(node, "modules").split(), groups)
            uses[weight.name] += 1
            if (use := uses[weight.name]) > 1:  # gemma3n's router; what is stored of it is the same
                parent, _, role = weight.name.rpartition(".")
                weight = replace(weight, name=f"{parent}.use_{use}.{role}")
            lower = assembler.linear if node.op_type == "Linear" else assembler.embedding
            lower(weight, node.input[0], node.output[0])
        done += 1
        progress(done, total)
