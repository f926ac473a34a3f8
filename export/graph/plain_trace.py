"""Trace a model to the plain graph with Optimum: the model's own operators, with the past as inputs and outputs.

transformers computes masks with functions that the tracer cannot follow (`torch.vmap`). While a model is traced, the
functions of `_MASKS` replace them: the same masks, from the length of the past.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from optimum.exporters.onnx.config import TextDecoderOnnxConfig  # type: ignore[import-untyped]
from optimum.exporters.onnx.model_patcher import ModelPatcher  # type: ignore[import-untyped]
from optimum.utils.normalized_config import NormalizedTextConfig  # type: ignore[import-untyped]
from torch import Tensor
from transformers import DynamicCache, PretrainedConfig, PreTrainedModel

from infrs.bundle.graph_signature import ATTENTION_MASK, INPUT_IDS, LOGITS, POSITION_IDS, past_names, present_names
from infrs.errors import ExportError

from .fusions.architectures import KVShapes
from .optimum_export import OPSET

_LONGEST_PROBE = 2  # tokens


def plain_shapes(model: PreTrainedModel) -> KVShapes:
    """Return the shape of each layer's keys and values, from the cache of a short run.

    Raises ExportError if the model keeps something else than keys and values of one shape.
    """
    ids = torch.ones(1, _LONGEST_PROBE, dtype=torch.int64)
    with torch.no_grad():
        cache = model(input_ids=ids, cache=DynamicCache(), use_cache=True).cache
    shapes = {tuple(getattr(layer, part).shape) for layer in cache.layers for part in ("keys", "values")}
    if len(shapes) != 1 or len(shape := shapes.pop()) != 4 or shape[2] != _LONGEST_PROBE:
        raise ExportError("this architecture keeps its past in a shape that infrs cannot serve; try another model")
    return [(shape[1], shape[3])] * len(cache.layers)


def _additive(allowed: Tensor, attention_mask: Tensor) -> Tensor:
    """Return 0 where a query may attend, else the lowest number: float32 [batch, 1, new, total]."""
    allowed = allowed[None, None] & attention_mask[:, None, None, :].bool()
    return torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)


def _positions(inputs_embeds: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the positions of the queries, [new, 1], and of the keys, [1, total]."""
    keys = torch.arange(attention_mask.shape[1])
    return keys[attention_mask.shape[1] - inputs_embeds.shape[1] :][:, None], keys[None]


def _causal(
    config: PretrainedConfig, inputs_embeds: Tensor, attention_mask: Tensor, *_: object, **__: object
) -> Tensor:
    queries, keys = _positions(inputs_embeds, attention_mask)
    return _additive(keys <= queries, attention_mask)


def _sliding(
    config: PretrainedConfig, inputs_embeds: Tensor, attention_mask: Tensor, *_: object, **__: object
) -> Tensor:
    queries, keys = _positions(inputs_embeds, attention_mask)
    return _additive((keys <= queries) & (keys > queries - config.sliding_window), attention_mask)


def _chunked(
    config: PretrainedConfig, inputs_embeds: Tensor, attention_mask: Tensor, *_: object, **__: object
) -> Tensor:
    queries, keys = _positions(inputs_embeds, attention_mask)
    size = config.attention_chunk_size
    return _additive((keys <= queries) & (keys // size == queries // size), attention_mask)


_MASKS: dict[str, Callable[..., Tensor]] = {
    "create_causal_mask": _causal,
    "create_sliding_window_causal_mask": _sliding,
    "create_chunked_causal_mask": _chunked,
}


class _Past:
    """Keys and values of every layer, [batch, heads, length, width], as a model's `cache`."""

    is_compileable = False
    is_sliding: Sequence[bool] = ()

    def __init__(self, layers: Sequence[tuple[Tensor, Tensor]]) -> None:
        self.layers = list(layers)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of tokens of a layer."""
        return self.layers[layer_idx][0].shape[2]

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Append to a layer and return all of it."""
        past_keys, past_values = self.layers[layer_idx]
        self.layers[layer_idx] = torch.cat([past_keys, keys], dim=2), torch.cat([past_values, values], dim=2)
        return self.layers[layer_idx]


class PlainPatcher(ModelPatcher):  # type: ignore[misc]
    """A context in which the model has the plain graph's forward, and computes masks that the tracer can follow."""

    def __init__(
        self, config: PlainOnnxConfig, model: PreTrainedModel, model_kwargs: dict[str, Any] | None = None
    ) -> None:
        super().__init__(config, model, model_kwargs)
        self._stack = ExitStack()
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

    def __enter__(self) -> None:
        super().__enter__()
        for module in {sys.modules[type(part).__module__] for part in self._model.modules()}:
            for name in _MASKS.keys() & vars(module).keys():
                self._stack.callback(setattr, module, name, getattr(module, name))
                setattr(module, name, _MASKS[name])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        super().__exit__(kind, error, trace)


class PlainOnnxConfig(TextDecoderOnnxConfig):  # type: ignore[misc]
    """The signature of the plain graph, as in `infrs.bundle.graph_signature`."""

    NORMALIZED_CONFIG_CLASS = NormalizedTextConfig
    DEFAULT_ONNX_OPSET = OPSET
    _MODEL_PATCHER = PlainPatcher

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(model.config, task="text-generation", use_past=True, use_past_in_inputs=True)
        self.kv = plain_shapes(model)
        self._takes_positions = POSITION_IDS in inspect.signature(model.forward).parameters

    @property
    def inputs(self) -> dict[str, dict[int, str]]:
        """Return the input names and their dynamic axes."""
        names = {INPUT_IDS: {0: "batch", 1: "new"}, ATTENTION_MASK: {0: "batch", 1: "total"}}
        if self._takes_positions:
            names[POSITION_IDS] = {0: "batch", 1: "new"}
        return names | {name: {0: "batch", 2: "past"} for name in past_names(len(self.kv))}

    @property
    def outputs(self) -> dict[str, dict[int, str]]:
        """Return the output names and their dynamic axes."""
        presents = {name: {0: "batch", 2: "total"} for name in present_names(len(self.kv))}
        return {LOGITS: {0: "batch", 1: "new"}, **presents}

    def generate_dummy_inputs(self, framework: str = "pt", **_: object) -> dict[str, Any]:
        """Return the inputs for tracing: two rows, so that the tracer takes no dimension for a constant 1."""
        batch, past, new = 2, 5, 3
        slabs = [torch.zeros(batch, num_kv_heads, past, head_dim) for num_kv_heads, head_dim in self.kv]
        inputs = {
            INPUT_IDS: torch.ones(batch, new, dtype=torch.int64),
            ATTENTION_MASK: torch.ones(batch, past + new, dtype=torch.int64),
        }
        if self._takes_positions:
            inputs[POSITION_IDS] = torch.arange(past, past + new).expand(batch, new)
        return {**inputs, "past_key_values": [(slab, slab.clone()) for slab in slabs]}

    def fix_dynamic_axes(self, model_path: Path, **_: object) -> None:
        """Do nothing: the axes are complete."""
