"""Estimate the memory of a model from its manifest, before it is loaded."""

from __future__ import annotations

from infrs.bundle.manifest import AnyManifest, Manifest
from infrs.bundle.states import kv_dtype, size_of
from infrs.config.settings import EngineSettings
from infrs.engine.state_memory import max_state_bytes
from infrs.machine.memory import Memory

# Tokenizer, grammars and buffers of the session: 20 to 50 MB for a vocabulary of 49,000 tokens.
_FIXED_BYTES = 64 << 20
# The weights of 16 bits are widened to 32 bits, but for processors with instructions for them.
_WIDENED = {"float16": 2, "bfloat16": 2}


def max_bytes(manifest: AnyManifest, settings: EngineSettings, memory: Memory) -> int:
    """Return the most bytes that a model takes once it is loaded: weights, and the states of all rows."""
    weights = sum(entry.size for entry in manifest.files.values()) * _WIDENED.get(manifest.dtype, 1)
    state_bytes = 0
    if isinstance(manifest, Manifest):
        size = size_of(manifest.states, kv_dtype(manifest.states))
        state_bytes = max_state_bytes(size, manifest.context_length, settings, memory)
    return weights + state_bytes + _FIXED_BYTES
