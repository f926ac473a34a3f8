"""Load a GGUF file into PyTorch. Every tensor fills a parameter, and every parameter has a tensor."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from ..checkpoint import Stored
from ..checks.coverage import match_tensors
from ..checks.places import Place
from ..checks.tensor_values import check_finite
from ..rope_config import check_rotary, read_rope
from . import gated_delta
from .architectures import ARCHITECTURES, FACTORS, Architecture
from .config import check_whole, config_fields
from .reader import GGUFFile, read_gguf
from .vocabulary import checked_vocabulary

# The matrices of experts in transformers' parameters.
_EXPERTS = {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)}
_UNUSED = re.compile(r"\.attn_rot_embd(\.weight)?$")  # frequencies that old converters kept
_TRANSPOSED = re.compile(r"\.(attn_qkv|attn_output|ffn_up|ffn_down)\.weight$")


def load_gguf(path: Path, model_id: str, progress: Callable[[int, int], None]) -> PreTrainedModel:
    """Return the causal language model in the file `path`, in float32 with eager attention. Raises SourceError.

    model_id: the name in errors. progress: called with the tensors read and their number.
    """
    file = read_gguf(path)
    check_whole(file.metadata)
    factors = {name: file.tensors[name].values().tolist() for name in FACTORS if name in file.tensors}
    metadata = checked_vocabulary(file.metadata)
    fields, rope = read_rope(config_fields(metadata, factors))
    fields["tie_word_embeddings"] = "output.weight" not in file.tensors
    config = CONFIG_MAPPING[fields["model_type"]].from_dict(fields)
    architecture = ARCHITECTURES[file.metadata["general.architecture"]]
    with torch.device("meta"):
        outline = _make(config)
    known = _places(str(file.metadata["general.architecture"]), outline, config.num_hidden_layers)
    uses = match_tensors(
        model_id, outline, _described(file, architecture, config.num_hidden_layers), known=known, config="the metadata"
    )
    with no_init_weights():  # the weights come from the file
        model = _make(config)
    model.tie_weights()
    state = model.state_dict(keep_vars=True)
    with torch.no_grad():
        for done, (name, place) in enumerate(uses.items(), 1):
            values = _restored(name, file.tensors[name].values(), architecture, config)
            place.of(state).copy_(torch.from_numpy(np.array(values)))
            progress(done, len(uses))
    check_finite(model_id, model)
    check_rotary(model, rope)
    trained: PreTrainedModel = model.train(False)
    return trained


def _make(config: PretrainedConfig) -> PreTrainedModel:
    loader: Any = AutoModelForCausalLM
    made: PreTrainedModel = loader.from_config(config, attn_implementation="eager", dtype=torch.float32)
    return made


def _places(architecture: str, model: nn.Module, num_layers: int) -> dict[str, Place]:
    """Return the place of each tensor by its name, by the table of the package gguf."""
    kind = next(kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    table = gguf.get_tensor_name_map(kind, num_layers)
    places = {}
    for parameter in model.state_dict():
        base, _, suffix = gated_delta.stored_name(parameter).rpartition(".")
        if suffix in _EXPERTS:  # a parameter of all experts of a layer
            for part, matrix in enumerate(_EXPERTS[suffix]):
                name = table.get_name(f"{base}.{matrix}")
                places[f"{name}.weight"] = Place(parameter, None, part, len(_EXPERTS[suffix]))
        elif (name := table.get_name(base)) is not None:
            places[f"{name}.{suffix}"] = Place(parameter)
        elif (name := table.get_name(parameter)) is not None:
            places[name] = Place(parameter)
    return places


def _described(file: GGUFFile, architecture: Architecture, num_layers: int) -> dict[str, Stored]:
    """Return the shapes that the tensors have in PyTorch, without those that no model has a use for."""
    used = {name: item for name, item in file.tensors.items() if name not in FACTORS and not _UNUSED.search(name)}
    if architecture.linear_attention:  # the layers behind the last one draft tokens
        used = {name: item for name, item in used.items() if not gated_delta.is_draft(name, num_layers)}
    turned = {name for name in used if architecture.transposed and _TRANSPOSED.search(name)}
    shapes = {name: item.shape[:: -1 if name in turned else 1] for name, item in used.items()}
    if architecture.linear_attention:
        shapes = {name: gated_delta.stored_shape(name, shape) for name, shape in shapes.items()}
    return {name: Stored(shape, "F32") for name, shape in shapes.items()}


def _restored(
    name: str, values: NDArray[np.float32], architecture: Architecture, config: PretrainedConfig
) -> NDArray[np.float32]:
    """Undo what llama.cpp's converter does to the values of a tensor."""
    if architecture.linear_attention:
        values = gated_delta.restored(name, values, config)
    if architecture.norm_adds_one and name.endswith("norm.weight") and not name.endswith(".ssm_norm.weight"):
        return values - 1
    if architecture.transposed and _TRANSPOSED.search(name):
        return values.T
    if architecture.reordered and name.endswith(("attn_q.weight", "attn_k.weight")):
        heads = config.num_attention_heads if "attn_q." in name else config.num_key_value_heads
        pairs = values.reshape(heads, len(values) // heads // 2, 2, *values.shape[1:])
        return pairs.swapaxes(1, 2).reshape(values.shape)
    return values
