"""The name of the kernels that ran a parity check, for the manifest."""

from __future__ import annotations

from importlib.metadata import version


def kernels_name(own: str) -> str:
    """Return the name of the kernels. `own`: those of infrs, see `kernels_of`; empty if ONNX Runtime's ran."""
    return f"infrs {own}" if own else f"onnxruntime {version('onnxruntime')}"
