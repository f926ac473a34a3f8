"""Estimate the memory of a model from its manifest, before it is loaded."""

from __future__ import annotations

from infrs import native
from infrs.bundle.manifest import AnyManifest, Manifest
from infrs.bundle.states import kv_dtype, size_of
from infrs.config.settings import EngineSettings
from infrs.engine.state_memory import max_state_bytes
from infrs.machine.memory import Memory

# Tokenizer, grammars and buffers of the session: 20 to 50 MB for a vocabulary of 49,000 tokens.
_FIXED_BYTES = 64 << 20
_HALVES = {"float16", "bfloat16"}


def max_bytes(manifest: AnyManifest, settings: EngineSettings, memory: Memory) -> int:
    """Return the most bytes that a model takes once it is loaded: weights, and the states of all rows."""
    weights = sum(entry.size for entry in manifest.files.values()) * (2 if _widens(manifest) else 1)
    state_bytes = 0
    if isinstance(manifest, Manifest):
        halves = settings.kernel_options.stores_halves(usual=kv_dtype(manifest.states) == "float16")
        size = size_of(manifest.states, "float16" if halves else "float32")
        state_bytes = max_state_bytes(size, manifest.context_length, settings, memory)
    return weights + state_bytes + _FIXED_BYTES


def _widens(manifest: AnyManifest) -> bool:
    """Return whether 16-bit weights take 32 bits: those of experts and older bundles, and without infrs's kernels."""
    has_experts = isinstance(manifest, Manifest) and manifest.graph == "fused" and not manifest.batch_invariant
    return manifest.dtype in _HALVES and (manifest.recipe.name != "floats" or has_experts or native.library() is None)
