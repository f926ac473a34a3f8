"""Serve ONNX bundles with an OpenAI-compatible API on CPUs."""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infrs.llm import LLM, AsyncLLM, SamplingParams

__all__ = ["LLM", "AsyncLLM", "SamplingParams"]
__version__ = "0.2.0"

# ONNX Runtime 1.29 and later reports each process and session to Microsoft, unless this is set before its import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> Any:  # noqa: ANN401  # any exported name
    """Return an exported name. Its package is imported at first use, so that `import infrs` takes no time."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("infrs.llm"), name)
