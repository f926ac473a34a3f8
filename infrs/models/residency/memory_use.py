"""Estimate the memory of a model from its manifest, before it is loaded."""

from __future__ import annotations

from infrs.bundle.manifest import AnyManifest, Manifest
from infrs.bundle.states import bytes_per_token
from infrs.config.settings import EngineSettings
from infrs.engine.build import max_kv_bytes
from infrs.machine.memory import Memory

# Tokenizer, grammars and buffers of the session: 20 to 50 MB for a vocabulary of 49,000 tokens.
_FIXED_BYTES = 64 << 20
# The weights of 16 bits are widened to 32 bits, but for processors with instructions for them.
_WIDENED = {"float16": 2, "bfloat16": 2}


def max_bytes(manifest: AnyManifest, settings: EngineSettings, memory: Memory) -> int:
    """Return the most bytes that a model takes once it is loaded: weights, and keys and values of all rows."""
    weights = sum(entry.size for entry in manifest.files.values()) * _WIDENED.get(manifest.dtype, 1)
    kv_bytes = 0
    if isinstance(manifest, Manifest):
        dtypes = {state.dtype for state in manifest.states}
        token_bytes = bytes_per_token(manifest.states, "float16" if dtypes == {"float16"} else "float32")
        kv_bytes = max_kv_bytes(token_bytes, manifest.context_length, settings, memory)
    return weights + kv_bytes + _FIXED_BYTES
