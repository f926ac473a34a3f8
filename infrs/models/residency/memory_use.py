"""Estimate the memory of a model from its manifest, before it is loaded."""

from __future__ import annotations

from infrs import native
from infrs.bundle.manifest import AnyManifest, Manifest
from infrs.bundle.states import StateSize, kv_dtype, size_of
from infrs.config.settings import EngineSettings
from infrs.engine.state_memory import max_state_bytes, num_draft_rows
from infrs.machine.memory import Memory

# Tokenizer, grammars and buffers of the session: 20 to 50 MB for a vocabulary of 49,000 tokens.
_FIXED_BYTES = 64 << 20
_HALVES = {"float16", "bfloat16"}


def max_bytes(manifest: AnyManifest, settings: EngineSettings, memory: Memory, draft: AnyManifest | None = None) -> int:
    """Return the most bytes that a model takes once it is loaded: weights, and the states of all rows.

    draft: the manifest of its draft model; None for none.
    """
    weights = _weights(manifest) + (0 if draft is None else _weights(draft))
    state_bytes = 0
    if isinstance(manifest, Manifest):
        of_drafts = num_draft_rows(settings) * _state_size(draft, settings).per_token if draft is not None else 0
        state_bytes = max_state_bytes(
            _state_size(manifest, settings), manifest.context_length, settings, memory, StateSize(of_drafts)
        )
    return weights + state_bytes + _FIXED_BYTES


def _weights(manifest: AnyManifest) -> int:
    return sum(entry.size for entry in manifest.files.values()) * (2 if _widens(manifest) else 1)


def _state_size(manifest: AnyManifest, settings: EngineSettings) -> StateSize:
    """Return the size of the states of one sequence; nothing, if the model is no chat model."""
    if not isinstance(manifest, Manifest):
        return StateSize(0)
    return size_of(manifest.states, settings.kernel_options.stored_dtype(kv_dtype(manifest.states)))


def _widens(manifest: AnyManifest) -> bool:
    """Return whether 16-bit weights take 32 bits: those of experts and older bundles, and without infrs's kernels."""
    has_experts = isinstance(manifest, Manifest) and manifest.graph == "fused" and not manifest.batch_invariant
    return manifest.dtype in _HALVES and (manifest.recipe.name != "floats" or has_experts or native.library() is None)
