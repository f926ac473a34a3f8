"""Bundles that hold only a manifest: enough for code that looks for them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from infrs.bundle.manifest import Dtype, Manifest, Recipe, Source, SpecialTokens, slug
from infrs.bundle.states import KVGeometry


def publish(
    cache: Path,
    model_id: str,
    dtype: Dtype,
    *,
    revision: str = "main",
    kind: Literal["hub", "local", "gguf"] = "hub",
) -> Path:
    """Put a bundle into the cache and return its path."""
    bundle = cache / slug(model_id) / f"{dtype}-abc"
    bundle.mkdir(parents=True, exist_ok=True)
    manifest = Manifest(
        source=Source(kind=kind, model_id=model_id, revision=revision),
        dtype=dtype,
        recipe=Recipe(name="r", options={}, hash="0" * 64),
        architecture="llama",
        graph="fused",
        graph_file="model.onnx",
        states=KVGeometry(num_layers=1, num_kv_heads=1, head_dim=1).states("float32"),
        batch_invariant=True,
        chunk_invariant=False,
        vocab_size=1,
        context_length=1,
        special_tokens=SpecialTokens(bos=None, eos=()),
        files={},
        tool_versions={},
        parity={},
        created="2026-01-01T00:00:00Z",
    )
    (bundle / "manifest.json").write_text(manifest.model_dump_json())
    return bundle
