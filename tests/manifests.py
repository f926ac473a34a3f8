"""Manifests of chat models for tests."""

from __future__ import annotations

from typing import Any

from infrs.bundle.manifest import Manifest, Recipe, Source, SpecialTokens
from infrs.bundle.states import KVGeometry


def chat_manifest(model_id: str, **fields: Any) -> Manifest:
    """Return the manifest of a local model with one layer and no files. `fields` replace others."""
    made: dict[str, Any] = {
        "source": Source(kind="local", model_id=model_id, revision="main"),
        "dtype": "float32",
        "recipe": Recipe(name="none", options={}, hash="0" * 64),
        "architecture": "fake",
        "graph": "fused",
        "graph_file": "model.onnx",
        "states": KVGeometry(num_layers=1, num_kv_heads=1, head_dim=1).states("float32"),
        "batch_invariant": True,
        "chunk_invariant": False,
        "vocab_size": 256,
        "context_length": 512,
        "special_tokens": SpecialTokens(bos=None, eos=(0,)),
        "files": {},
        "tool_versions": {},
        "parity": {},
        "created": "2026-01-01T00:00:00Z",
    }
    return Manifest(**(made | fields))
