"""Load a source model into PyTorch: float32, CPU, eager attention, no code from the repository."""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.initialization import no_init_weights
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging as transformers_logging
from transformers.utils.quantization_config import Mxfp4Config

from infrs.errors import InfrsError, SourceError

from ..graph.fusions.experts import PARTS, is_experts
from ..recipes.floats import round_to
from .checkpoint import read_tensors
from .checks.config_fields import check_fields
from .checks.coverage import check_filled, match_tensors
from .checks.mxfp4 import check_mxfp4, unpacked
from .checks.tensor_values import check_ties, check_values
from .checks.types import culprit
from .config_check import check_sizes, first_line, is_mxfp4, read_json
from .resolve import Model
from .rope_config import check_rotary
from .sequence_classifier import check_classifier_type
from .source_config import SourceConfig, has_text_half, read_source_config
from .supported import check_architecture, check_experts, check_model_type, check_past

Progress = Callable[[int, int], None]
_LOADING: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": "eager", "local_files_only": True}


def load_model(model: Model, progress: Progress = lambda done, total: None) -> PreTrainedModel:
    """Return the causal language model. progress: called with the GGUF tensors read and in all. Raises SourceError."""
    _quiet()
    with _explained(model):
        if model.gguf is None:
            return _load_folder(model)
        from .gguf.model import load_gguf  # noqa: PLC0415  # needs the extra `demo`

        return load_gguf(model.gguf, model.source.model_id, progress)


def load_encoder(model: Model) -> PreTrainedModel:
    """Return the transformer of an embedding model, without a head. Raises SourceError."""
    _quiet()
    with _explained(model):
        return _load(model, AutoModel, read_source_config(model.directory), encoder=True)


def load_classifier(model: Model) -> PreTrainedModel:
    """Return the sequence classifier. Raises SourceError."""
    _quiet()
    with _explained(model):
        check_classifier_type(read_json(model.directory / "config.json"))
        return _load(model, AutoModelForSequenceClassification, read_source_config(model.directory))


def _load_folder(model: Model) -> PreTrainedModel:
    given = read_json(model.directory / "config.json")
    if not has_text_half(given):
        check_model_type(given)
    described = read_source_config(model.directory)
    check_architecture(described.config)
    return _load(model, AutoModelForCausalLM, described)


def _load(model: Model, loader: Any, described: SourceConfig, *, encoder: bool = False) -> PreTrainedModel:  # noqa: ANN401
    """Return the model of `described`; raise SourceError unless the folder fills every weight."""
    name = model.source.model_id
    tensors = {tensor: stored for tensor, stored in read_tensors(model.directory).items() if described.used(tensor)}
    config = read_json(model.directory / "config.json")
    quantised: dict[str, Any] = {}
    if is_mxfp4(config):
        tensors = unpacked(tensors)
        described.config.quantization_config = config["quantization_config"]
        quantised["quantization_config"] = Mxfp4Config(dequantize=True)
    num_weights = sum(math.prod(stored.shape) for stored in tensors.values())
    check_sizes(config, num_weights)
    outline = _outline(loader, described)
    check_fields(described.given, outline)
    check_experts(outline, writes=loader is AutoModelForCausalLM)
    if loader is AutoModelForCausalLM:
        check_past(outline)
    uses = match_tensors(name, outline, tensors, described.rename, encoder=encoder)
    loaded, info = loader.from_pretrained(
        model.directory,
        config=described.config,
        key_mapping=described.renamed or None,
        output_loading_info=True,
        use_safetensors=True,
        trust_remote_code=False,
        **quantised,
        **_LOADING,
    )
    check_filled(name, info["missing_keys"], (), tensors, encoder=encoder)
    check_ties(outline, loaded)
    check_values(name, loaded, model.directory, uses)
    check_mxfp4(name, loaded, model.directory, uses)
    check_rotary(loaded, described.rope)
    trained: PreTrainedModel = loaded.train(False)
    return trained


def _outline(loader: Any, described: SourceConfig) -> PreTrainedModel:  # noqa: ANN401  # an auto class
    """Return the model without memory for its weights. Raises SourceError, with the field that prevents it."""

    def make(config: PretrainedConfig) -> PreTrainedModel:
        with torch.device("meta"), no_init_weights():
            outline: PreTrainedModel = loader.from_config(config, attn_implementation="eager")
        outline.tie_weights()
        return outline

    try:
        return make(described.config)
    except Exception as error:  # transformers raises any type
        of = type(described.config)
        raise culprit(error, described.given, lambda fields: make(of.from_dict(fields))) from error


def round_weights(model: nn.Module, dtype: np.dtype[np.generic]) -> None:
    """Round every matrix that the recipes store to 16 bits, in place. Raises ExportError if one overflows."""
    with torch.no_grad():
        for name, module in model.named_modules():
            stored = ("weight",) if isinstance(module, nn.Linear | nn.Embedding | Conv1D) else ()
            for part in PARTS if is_experts(module) else stored:
                parameter = getattr(module, part)
                parameter.copy_(torch.from_numpy(round_to(parameter.numpy(), dtype, name).astype(np.float32)))


@contextmanager
def _explained(model: Model) -> Iterator[None]:
    """Turn any exception of transformers into a SourceError: a downloaded file can make it raise any type."""
    try:
        yield
    except InfrsError:
        raise
    except Exception as error:
        raise SourceError(
            f"transformers cannot load {model.source.model_id}: {first_line(error)}; check the model's files"
        ) from error


def _quiet() -> None:
    """Limit the libraries' logs to errors: the command reports its own progress."""
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    for name in ("transformers", "optimum", "torch.onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(transformers|optimum|torch)\b")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
