"""Serve ONNX bundles with an OpenAI-compatible API on CPUs."""

import os

__version__ = "0.2.0"

# ONNX Runtime 1.29 and later reports each process and session to Microsoft, unless this is set before its import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
