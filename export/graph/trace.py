"""Trace a model to the fused graph with Optimum: an OnnxConfig with the graph signature, and a ModelPatcher."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import onnx
import torch
from optimum.exporters.onnx.config import TextDecoderOnnxConfig  # type: ignore[import-untyped]
from optimum.exporters.onnx.model_patcher import ModelPatcher  # type: ignore[import-untyped]
from optimum.utils.normalized_config import NormalizedTextConfig  # type: ignore[import-untyped]
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from infrs.bundle.graph_signature import (
    ACTIVE_ROWS,
    INPUT_IDS,
    LOGITS,
    LOGITS_INDICES,
    SEQLENS_K,
    TOTAL_SEQUENCE_LENGTH,
    past_names,
    present_names,
)

from .fusions.attention import Forward
from .fusions.modules import output_layer, replacements, rotary_kinds, rotary_modules, rotary_table
from .fusions.traced_states import FusedCache, States
from .optimum_export import OPSET

# transformers makes no mask for an attention implementation that it does not know.
_ATTENTION = "infrs"
# gemma4 drops tokens without logits before the layers that share keys; it would slice the rotary tables for that.
_SLICE = "_maybe_slice_kv_shared_inputs"


class FusedPatcher(ModelPatcher):  # type: ignore[misc]
    """A context in which the model has the fused graph's forward, and its modules emit that graph's operators."""

    def __init__(
        self, config: FusedOnnxConfig, model: PreTrainedModel, model_kwargs: dict[str, Any] | None = None
    ) -> None:
        super().__init__(config, model, model_kwargs)
        self._context_length = config.context_length
        self._stack = ExitStack()
        model_forward = self.orig_forward

        def forward(  # noqa: PLR0917 (Optimum passes the inputs in order)
            input_ids: Tensor,
            seqlens_k: Tensor,
            total_sequence_length: Tensor,
            logits_indices: Tensor,
            past_key_values: Sequence[tuple[Tensor, ...]],
            active_rows: Tensor | None = None,
        ) -> tuple[Tensor, ...]:
            cache = FusedCache(config.layers, past_key_values, (seqlens_k, total_sequence_length), active_rows)
            new = input_ids.shape[1]
            positions = (seqlens_k.long() + 1 - new)[:, None] + torch.arange(new)
            self._logits_indices = logits_indices
            outputs = model_forward(input_ids=input_ids, position_ids=positions, cache=cache, use_cache=True)
            return outputs.logits, *cache.presents

        self.patched_forward = forward

    def __enter__(self) -> None:
        super().__enter__()
        try:
            self._patch(self._model)
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def _patch(self, model: PreTrainedModel) -> None:
        configs = [module.config for module in model.modules() if hasattr(module, "config")]
        for config in {id(config): config for config in configs}.values():
            self._set(config, "_attn_implementation_internal", _ATTENTION)
        for module in model.modules():
            if hasattr(module, _SLICE):
                self._set(module, _SLICE, lambda *inputs, **_: inputs[:4])
        for rotary in rotary_modules(model):
            self._set(rotary, "forward", self._rotary_forward(rotary))
        for module, forward in replacements(model):
            self._set(module, "forward", forward)
        head = output_layer(model)
        self._set(head, "forward", self._head_forward(head.forward, head.in_features))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        super().__exit__(kind, error, trace)

    def _set(self, owner: object, attribute: str, value: object) -> None:
        """Set an attribute on the instance until exit."""
        own = vars(owner)
        if attribute in own:
            self._stack.callback(setattr, owner, attribute, own[attribute])
        else:
            self._stack.callback(delattr, owner, attribute)
        setattr(owner, attribute, value)

    def _rotary_forward(self, rotary: nn.Module) -> Forward:
        """Return a forward that gives attention layers whole tables. They are buffers, so that each is stored once."""
        names: dict[str | None, tuple[str, str]] = {}
        for layer_type in rotary_kinds(rotary):
            names[layer_type] = (f"infrs_{layer_type or ''}cos", f"infrs_{layer_type or ''}sin")
            for name, table in zip(
                names[layer_type], rotary_table(rotary, self._context_length, layer_type), strict=True
            ):
                rotary.register_buffer(name, table)
                self._stack.callback(delattr, rotary, name)

        def forward(*args: object, layer_type: str | None = None, **_: object) -> tuple[Tensor, Tensor]:
            kind = args[2] if len(args) > 2 else layer_type
            cos, sin = names[kind if kind in names else None]
            return getattr(rotary, cos), getattr(rotary, sin)

        return forward

    def _head_forward(self, forward: Forward, width: int) -> Forward:
        """Return a forward that scores only the tokens at `logits_indices`."""
        return lambda hidden: forward(hidden.reshape(-1, width).index_select(0, self._logits_indices))


def declare_lengths(graph: onnx.GraphProto) -> None:
    """Add the inputs for the lengths of rows, which the tracer drops if no layer attends (mamba2)."""
    declared = {item.name for item in graph.input}
    for name, shape in ((SEQLENS_K, ["batch"]), (TOTAL_SEQUENCE_LENGTH, [])):
        if name not in declared:
            graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT32, shape))


class FusedOnnxConfig(TextDecoderOnnxConfig):  # type: ignore[misc]
    """The signature of the fused graph, as in `infrs.bundle.graph_signature`."""

    NORMALIZED_CONFIG_CLASS = NormalizedTextConfig
    DEFAULT_ONNX_OPSET = OPSET
    _MODEL_PATCHER = FusedPatcher

    def __init__(self, config: PretrainedConfig, layers: States, context_length: int) -> None:
        super().__init__(config, task="text-generation", use_past=True, use_past_in_inputs=True)
        self.layers = layers
        self.states = tuple(layers.values())
        self.context_length = context_length

    @property
    def inputs(self) -> dict[str, dict[int, str]]:
        """Return the input names and their dynamic axes."""
        active = {ACTIVE_ROWS: {0: "batch"}} if self._has_fixed_states else {}
        return {
            INPUT_IDS: {0: "batch", 1: "sequence"},
            SEQLENS_K: {0: "batch"},
            TOTAL_SEQUENCE_LENGTH: {},
            LOGITS_INDICES: {0: "scored"},
            **self._axes(past_names(self.states)),
            **active,
        }

    @property
    def outputs(self) -> dict[str, dict[int, str]]:
        """Return the output names and their dynamic axes."""
        return {LOGITS: {0: "scored"}, **self._axes(present_names(self.states))}

    @property
    def _has_fixed_states(self) -> bool:
        return any(state.kind != "kv" for state in self.states)

    @staticmethod
    def _axes(names: Sequence[str]) -> dict[str, dict[int, str]]:
        fixed, slab = {0: "batch"}, {0: "batch", 2: "capacity"}
        return {name: fixed if name.endswith(".state") else slab for name in names}

    def generate_dummy_inputs(self, framework: str = "pt", **_: object) -> dict[str, Any]:
        """Return the inputs for tracing: two rows, so that the tracer takes no dimension for a constant 1."""
        batch, sequence, capacity = 2, 3, 8
        past = [
            tuple(torch.zeros(batch, state.shape[0], capacity, state.shape[1]) for _ in range(2))
            if state.kind == "kv"
            else (torch.zeros(batch, *state.shape),)
            for state in self.states
        ]
        active = {ACTIVE_ROWS: torch.ones(batch)} if self._has_fixed_states else {}
        return {
            INPUT_IDS: torch.ones(batch, sequence, dtype=torch.int64),
            SEQLENS_K: torch.full((batch,), sequence - 1, dtype=torch.int32),
            TOTAL_SEQUENCE_LENGTH: torch.tensor(sequence, dtype=torch.int32),
            LOGITS_INDICES: torch.arange(batch),
            "past_key_values": past,
            **active,
        }

    def fix_dynamic_axes(self, model_path: Path, **_: object) -> None:
        """Do nothing: Optimum would run the graph here, which is impossible before its placeholders are lowered."""
