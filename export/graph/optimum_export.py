"""The way to Optimum: one function, so that a change of its package is a change of this file."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from optimum.exporters.onnx import model_patcher, onnx_export_from_model  # type: ignore[import-untyped]
from torch import Tensor
from torch.onnx.utils import register_custom_op_symbolic
from transformers import PreTrainedModel, masking_utils

from ..replaced import replaced

OPSET = 18


def _traceable(mask: Callable[..., Tensor | None]) -> Callable[..., Tensor | None]:
    """Return a function of transformers that makes masks, without `torch.vmap`, which the tracer cannot follow."""
    return lambda **arguments: mask(**arguments | {"use_vmap": False})


# Optimum replaces these functions while it traces, by its own that take the arguments of transformers 4.
model_patcher.sdpa_mask_without_vmap = _traceable(masking_utils.sdpa_mask)
model_patcher.eager_mask_without_vmap = _traceable(masking_utils.eager_mask)


def _expm1(g: Any, x: Any) -> Any:  # noqa: ANN401  # torch's graph has no stubs
    """Write exp(x) - 1. ONNX has no operator that is exact near 0; the error is at most 6e-8."""
    return g.op("Sub", g.op("Exp", x), g.op("Constant", value_t=torch.tensor(1.0)))


register_custom_op_symbolic("aten::expm1", _expm1, OPSET)  # apertus


def _by_name(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Return a forward that passes its arguments by name, and those that are None not at all.

    The tracer passes them in order, with None between them. Then some models get `use_cache` twice.
    """
    signature = inspect.signature(forward)

    def named(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # of any model
        given = dict(zip(signature.parameters, args, strict=False)) | kwargs
        return forward(**{name: value for name, value in given.items() if value is not None})

    named.__signature__ = signature  # type: ignore[attr-defined]  # not `__wrapped__`, which Optimum would call instead
    return named


def trace(model: PreTrainedModel, task: str, output: Path, config: object | None = None) -> None:
    """Write `model.onnx` to the folder `output`. config: an OnnxConfig; None for Optimum's own."""
    with replaced(model, "forward", model.forward if config else _by_name(model.forward)):
        onnx_export_from_model(
            model,
            output=str(output),
            task=task,
            custom_onnx_configs={"model": config} if config else None,
            opset=OPSET,
            do_validation=False,
            no_post_process=True,
        )
