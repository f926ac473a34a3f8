"""Load a source model into PyTorch: float32, CPU, eager attention, no code from the repository."""

from __future__ import annotations

import functools
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from safetensors import SafetensorError
from torch import nn
from transformers import CONFIG_MAPPING, AutoModel, AutoModelForCausalLM, PreTrainedModel, modeling_gguf_pytorch_utils
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging as transformers_logging

from infrs.errors import SourceError

from .checkpoint import num_weights
from .config_check import check_sizes, read_json
from .recipe import round_to
from .source import Model

Progress = Callable[[int, int], None]
_LOADING: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": "eager", "local_files_only": True}
_SAFELY: dict[str, Any] = {"use_safetensors": True, "trust_remote_code": False}


def load_model(model: Model, progress: Progress = lambda done, total: None) -> PreTrainedModel:
    """The causal language model. progress: of a GGUF's tensors. Raises SourceError."""
    _quiet()
    if model.gguf is not None:
        options: dict[str, Any] = {"gguf_file": model.gguf.name}
    else:
        _check_model_type(read_json(model.directory / "config.json"))
        options = dict(_SAFELY)
    with _explained(model), _gguf_once(progress) if model.gguf else nullcontext():
        if model.gguf is None:
            _check_sizes(model)
        loaded: PreTrainedModel = AutoModelForCausalLM.from_pretrained(model.directory, **_LOADING, **options)
    loaded.train(False)
    return loaded


def load_encoder(model: Model) -> PreTrainedModel:
    """The transformer of an embedding model, without a head. Raises SourceError."""
    _quiet()
    with _explained(model):
        _check_sizes(model)
        loaded, told = AutoModel.from_pretrained(model.directory, **_LOADING, **_SAFELY, output_loading_info=True)
    absent = sorted(name for name in told["missing_keys"] if not name.startswith("pooler."))  # which nothing reads
    if absent:
        raise SourceError(f"the weights of {model.source.model_id} lack {absent[0]} and {len(absent) - 1} more")
    encoder: PreTrainedModel = loaded.train(False)
    return encoder


def round_weights(model: nn.Module, dtype: np.dtype[np.generic]) -> None:
    """Round every matrix that the recipes store to 16 bits, in place. Raises ExportError if one overflows."""
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding | Conv1D):
                array = module.weight.numpy()
                module.weight.copy_(torch.from_numpy(round_to(array, dtype, name).astype(np.float32)))


@contextmanager
def _explained(model: Model) -> Iterator[None]:
    """Turn what transformers raises into a sentence."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SourceError(f"transformers cannot load {model.source.model_id}: {reason}") from error


def _check_sizes(model: Model) -> None:
    check_sizes(read_json(model.directory / "config.json"), num_weights(model.directory))


def _check_model_type(config: dict[str, Any]) -> None:
    model_type = str(config["model_type"])
    writes = config.get("is_decoder") or config.get("is_encoder_decoder")
    if model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not writes:
        raise SourceError(
            f"{model_type} reads texts and writes none; infrs serves such a model's embeddings where the files of "
            "sentence-transformers (modules.json) lie beside it"
        )
    if model_type not in CONFIG_MAPPING or model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        supported = ", ".join(sorted(name for name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if name in CONFIG_MAPPING))
        raise SourceError(
            f"model_type {model_type!r} is not a causal language model that transformers knows: {supported}"
        )


@contextmanager
def _gguf_once(progress: Progress) -> Iterator[None]:
    """transformers parses a GGUF file twice and builds its table of names hundreds of times; once saves 12 s.

    It shows a bar meanwhile, whatever it is told; `progress` takes its place.
    """
    import gguf  # noqa: PLC0415  # of the extra `demo`

    def counted(tensors: Sequence[Any], **_: Any) -> Iterator[Any]:  # noqa: ANN401  # as tqdm
        for done, tensor in enumerate(tensors, 1):
            yield tensor
            progress(done, len(tensors))

    with (
        patch.object(gguf, "GGUFReader", functools.cache(gguf.GGUFReader)),
        patch.object(gguf, "get_tensor_name_map", functools.cache(gguf.get_tensor_name_map)),
        patch.object(modeling_gguf_pytorch_utils, "tqdm", counted),
    ):
        yield


def _quiet() -> None:
    """The command speaks for itself; its libraries keep to errors."""
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    for name in ("transformers", "optimum", "torch.onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(transformers|optimum|torch)\b")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
