"""The way to Optimum: one function, so that a change of its package is a change of this file."""

from __future__ import annotations

from pathlib import Path

from optimum.exporters.onnx import onnx_export_from_model  # type: ignore[import-untyped]
from transformers import PreTrainedModel

OPSET = 18


def trace(model: PreTrainedModel, task: str, output: Path, config: object | None = None) -> None:
    """Write `model.onnx` to the folder `output`. config: an OnnxConfig; None for Optimum's own."""
    onnx_export_from_model(
        model,
        output=str(output),
        task=task,
        custom_onnx_configs={"model": config} if config else None,
        opset=OPSET,
        do_validation=False,
        no_post_process=True,
    )
