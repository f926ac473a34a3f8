"""Bundles that hold only a manifest: enough for code that looks for them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from manifests import chat_manifest

from infrs.bundle.manifest import Dtype, Source, slug


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
    source = Source(kind=kind, model_id=model_id, revision=revision)
    manifest = chat_manifest(model_id, source=source, dtype=dtype)
    (bundle / "manifest.json").write_text(manifest.model_dump_json())
    return bundle
