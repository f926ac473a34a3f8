"""Trace a model to the plain graph with Optimum: the model's own operators, with the past as inputs and outputs."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from optimum.exporters.onnx.config import TextDecoderOnnxConfig  # type: ignore[import-untyped]
from optimum.exporters.onnx.model_patcher import ModelPatcher  # type: ignore[import-untyped]
from optimum.utils.normalized_config import NormalizedTextConfig  # type: ignore[import-untyped]
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from infrs.bundle.graph_signature import ATTENTION_MASK, INPUT_IDS, LOGITS, POSITION_IDS, past_names, present_names
from infrs.bundle.states import kv_states
from infrs.errors import ExportError

from .optimum_export import OPSET

_LONGEST_PROBE = 2  # tokens


def plain_shapes(model: PreTrainedModel) -> list[tuple[int, int]]:
    """Return the shape of each layer's keys and values, from the cache of a short run.

    model: with its weights or on the device "meta". Raises ExportError if it keeps something else than keys and values
    of one shape.
    """
    ids = torch.ones(1, _LONGEST_PROBE, dtype=torch.int64, device=model.device)
    with torch.no_grad():
        cache = model(input_ids=ids, cache=DynamicCache(), use_cache=True).cache
    shapes = {tuple(getattr(layer, part).shape) for layer in cache.layers for part in ("keys", "values")}
    shape = max(shapes)
    if len(shapes) != 1 or len(shape) != 4 or shape[2] != _LONGEST_PROBE:
        found = " and ".join(sorted(str(list(each)) for each in shapes))
        raise ExportError(
            f"{model.config.model_type} keeps its past in tensors of {found} for {_LONGEST_PROBE} tokens, "
            "and infrs needs keys and values of one shape; try another model"
        )
    return [(shape[1], shape[3])] * len(cache.layers)


class _Past:
    """Keys and values of every layer, [batch, heads, length, width], as a model's `cache`."""

    is_compileable = False
    is_sliding: Sequence[bool] = ()

    def __init__(self, layers: Sequence[tuple[Tensor, Tensor]]) -> None:
        self.layers = list(layers)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of tokens of a layer."""
        return self.layers[layer_idx][0].shape[2]

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """Return the position of the first new token."""
        return self.get_seq_length(layer_idx)

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        """Return the number of keys after the new tokens, and the position of the first."""
        return self.get_seq_length(layer_idx) + query_length, 0

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Append to a layer and return all of it."""
        past_keys, past_values = self.layers[layer_idx]
        self.layers[layer_idx] = torch.cat([past_keys, keys], dim=2), torch.cat([past_values, values], dim=2)
        return self.layers[layer_idx]


class PlainPatcher(ModelPatcher):  # type: ignore[misc]
    """A context in which the model has the plain graph's forward."""

    def __init__(
        self, config: PlainOnnxConfig, model: PreTrainedModel, model_kwargs: dict[str, Any] | None = None
    ) -> None:
        super().__init__(config, model, model_kwargs)
        model_forward = self.orig_forward

        def forward(
            input_ids: Tensor,
            attention_mask: Tensor,
            past_key_values: Sequence[tuple[Tensor, Tensor]],
            position_ids: Tensor | None = None,
        ) -> tuple[Tensor, ...]:
            cache = _Past(past_key_values)
            positions = {} if position_ids is None else {POSITION_IDS: position_ids}
            outputs = model_forward(
                input_ids=input_ids, attention_mask=attention_mask, cache=cache, use_cache=True, **positions
            )
            return outputs.logits, *(part for layer in cache.layers for part in layer)

        self.patched_forward = forward


class PlainOnnxConfig(TextDecoderOnnxConfig):  # type: ignore[misc]
    """The signature of the plain graph, as in `infrs.bundle.graph_signature`."""

    NORMALIZED_CONFIG_CLASS = NormalizedTextConfig
    DEFAULT_ONNX_OPSET = OPSET
    _MODEL_PATCHER = PlainPatcher

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(model.config, task="text-generation", use_past=True, use_past_in_inputs=True)
        self.states = kv_states(plain_shapes(model), "float32")
        self._takes_positions = POSITION_IDS in inspect.signature(model.forward).parameters

    @property
    def inputs(self) -> dict[str, dict[int, str]]:
        """Return the input names and their dynamic axes."""
        names = {INPUT_IDS: {0: "batch", 1: "new"}, ATTENTION_MASK: {0: "batch", 1: "total"}}
        if self._takes_positions:
            names[POSITION_IDS] = {0: "batch", 1: "new"}
        return names | {name: {0: "batch", 2: "past"} for name in past_names(self.states)}

    @property
    def outputs(self) -> dict[str, dict[int, str]]:
        """Return the output names and their dynamic axes."""
        presents = {name: {0: "batch", 2: "total"} for name in present_names(self.states)}
        return {LOGITS: {0: "batch", 1: "new"}, **presents}

    def generate_dummy_inputs(self, framework: str = "pt", **_: object) -> dict[str, Any]:
        """Return the inputs for tracing: two rows, so that the tracer takes no dimension for a constant 1."""
        batch, past, new = 2, 5, 3
        shapes = [state.shape for state in self.states]
        slabs = [torch.zeros(batch, num_kv_heads, past, head_dim) for num_kv_heads, head_dim in shapes]
        inputs = {
            INPUT_IDS: torch.ones(batch, new, dtype=torch.int64),
            ATTENTION_MASK: torch.ones(batch, past + new, dtype=torch.int64),
        }
        if self._takes_positions:
            inputs[POSITION_IDS] = torch.arange(past, past + new).expand(batch, new)
        return {**inputs, "past_key_values": [(slab, slab.clone()) for slab in slabs]}

    def fix_dynamic_axes(self, model_path: Path, **_: object) -> None:
        """Do nothing: the axes are complete."""
