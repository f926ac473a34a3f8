"""Serve ONNX bundles with an OpenAI-compatible API on CPUs."""

import os

__version__ = "0.2.0"

# Since 1.29 ONNX Runtime tells Microsoft of each process and session, unless this is set before it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
