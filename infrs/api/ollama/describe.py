"""Descriptions of models in Ollama's form: `/api/tags`, `/api/ps` and `/api/show`."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from infrs.models.embedding_model import EmbeddingModel
from infrs.models.loaded import LoadedModel
from infrs.text.infill import infill_marks

Model = LoadedModel | EmbeddingModel

VERSION = "0.12.11"  # of Ollama's API: the first with all fields of these routes. Programs require a version.
TAG = ":latest"  # of every model
_NEVER = "2318-01-01T00:00:00Z"  # Ollama's time for a model that stays loaded
# Ollama's names of the default sampling parameters.
_PARAMETERS = {"repetition_penalty": "repeat_penalty"}


def listed(model: Model) -> dict[str, Any]:
    """Return the entry of a model in `/api/tags`. size: bytes of the bundle."""
    files = model.manifest.files
    contents = "".join(f"{name} {files[name].sha256}\n" for name in sorted(files))
    return {
        "name": model.model_id + TAG,
        "model": model.model_id + TAG,
        "modified_at": datetime.fromtimestamp(model.created, UTC).isoformat().replace("+00:00", "Z"),
        "size": sum(entry.size for entry in files.values()),
        "digest": hashlib.sha256(contents.encode()).hexdigest(),
        "details": _details(model),
    }


def running(model: Model) -> dict[str, Any]:
    """Return the entry of a model in `/api/ps`."""
    entry = listed(model)
    del entry["modified_at"]
    return {**entry, "expires_at": _NEVER, "size_vram": 0, "context_length": model.max_model_len}


def shown(model: Model) -> dict[str, Any]:
    """Return the description of a model in `/api/show`."""
    manifest, family = model.manifest, model.manifest.architecture
    info: dict[str, Any] = {
        "general.architecture": family,
        "general.basename": model.model_id,
        f"{family}.context_length": model.max_model_len,
        f"{family}.vocab_size": manifest.vocab_size,
    }
    described = {
        "modelfile": f"FROM {model.model_id}\n",
        "parameters": "",
        "template": "",
        "details": _details(model),
        "model_info": info,
        "capabilities": ["embedding"],
        "modified_at": listed(model)["modified_at"],
    }
    if isinstance(model, EmbeddingModel):
        info[f"{family}.embedding_length"] = model.manifest.dimensions
        return described
    sampling = model.manifest.sampling.model_dump(exclude_none=True)
    lines = [f"{_PARAMETERS.get(name, name):<30} {value}" for name, value in sampling.items()]
    lines += [f"{'stop':<30} {stop!a}" for stop in model.chat_format.stop]
    has_marks = infill_marks(model.tokenizer) is not None
    capabilities = ["completion", "tools", *["insert"] * has_marks, *["thinking"] * model.thinks]
    return {
        **described,
        "parameters": "\n".join(lines),
        "template": model.chat_format.source,
        "capabilities": capabilities,
    }


def _details(model: Model) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "onnx",
        "family": model.manifest.architecture,
        "families": [model.manifest.architecture],
        "parameter_size": "",
        "quantization_level": model.manifest.dtype,
    }
