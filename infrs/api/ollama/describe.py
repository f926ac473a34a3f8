"""Descriptions of models in Ollama's form: `/api/tags`, `/api/ps` and `/api/show`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from infrs.bundle.manifest import AnyManifest, ClassifierManifest, EmbeddingManifest
from infrs.models.encoders.classifier import ClassifierModel
from infrs.models.encoders.embedding_model import EmbeddingModel
from infrs.models.loaded import LoadedModel
from infrs.models.registry import RegistryEntry
from infrs.text.chat.template import ChatFormat
from infrs.text.infill import infill_marks
from infrs.text.reasoning.tags import find_tags

VERSION = "0.12.11"  # of Ollama's API: the first with all fields of these routes. Programs require a version.
TAG = ":latest"  # of every model
_NEVER = "2318-01-01T00:00:00Z"  # Ollama's time for a model that stays loaded
# Ollama's names of the default sampling parameters.
_PARAMETERS = {"repetition_penalty": "repeat_penalty"}


@dataclass(frozen=True, slots=True)
class Described:
    """What Ollama's API shows of a model, loaded or not.

    created: when it was loaded, or when the server started. Unix time in seconds. max_model_len: of a model that is not
    loaded, the context of its manifest. chat: what only a chat model has.
    """

    model_id: str
    manifest: AnyManifest
    created: int
    max_model_len: int
    chat: ChatPart | None = None


@dataclass(frozen=True, slots=True)
class ChatPart:
    """The chat format of a model. infills: whether it continues a text before another; False if it is not loaded."""

    chat_format: ChatFormat
    thinks: bool
    infills: bool


def of_model(model: LoadedModel | EmbeddingModel | ClassifierModel) -> Described:
    """Describe a loaded model."""
    chat = None
    if isinstance(model, LoadedModel):
        chat = ChatPart(model.chat_format, model.thinks, infill_marks(model.tokenizer) is not None)
    return Described(model.model_id, model.manifest, model.created, model.max_model_len, chat)


def of_entry(entry: RegistryEntry) -> Described | None:
    """Describe a model from its manifest if it is not loaded; None if the manifest is not known yet."""
    if entry.served is not None:
        return of_model(entry.served.model)
    manifest = None if entry.found is None else entry.found.manifest
    if manifest is None:
        return None
    length = min(entry.spec.settings.max_model_len or manifest.context_length, manifest.context_length)
    return Described(entry.model_id, manifest, entry.created, length)


def with_format(described: Described, entry: RegistryEntry) -> Described:
    """Add the chat format of a chat model that is not loaded. Raises BundleError."""
    if described.chat is not None or entry.found is None or entry.found.read_format is None:
        return described
    chat_format = entry.found.read_format()
    return replace(described, chat=ChatPart(chat_format, find_tags(chat_format) is not None, infills=False))


def listed(model: Described) -> dict[str, Any]:
    """Return the entry of a model in `/api/tags`. size: bytes of the bundle."""
    files = model.manifest.files
    contents = "".join(f"{name} {files[name].sha256}\n" for name in sorted(files))
    return {
        "name": model.model_id + TAG,
        "model": model.model_id + TAG,
        "modified_at": _time(datetime.fromtimestamp(model.created, UTC)),
        "size": sum(entry.size for entry in files.values()),
        "digest": hashlib.sha256(contents.encode()).hexdigest(),
        "details": _details(model),
    }


def running(model: Described, expires_in: float | None) -> dict[str, Any]:
    """Return the entry of a model in `/api/ps`. expires_in: seconds until it is unloaded, None for never."""
    entry = listed(model)
    del entry["modified_at"]
    expires = _NEVER if expires_in is None else _time(datetime.now(UTC) + timedelta(seconds=expires_in))
    return {**entry, "expires_at": expires, "size_vram": 0, "context_length": model.max_model_len}


def shown(model: Described) -> dict[str, Any]:
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
    if isinstance(manifest, EmbeddingManifest):
        info[f"{family}.embedding_length"] = manifest.dimensions
        return described
    if isinstance(manifest, ClassifierManifest):
        return {**described, "capabilities": []}  # Ollama has no word for it
    sampling = manifest.sampling.model_dump(exclude_none=True)
    lines = [f"{_PARAMETERS.get(name, name):<30} {value}" for name, value in sampling.items()]
    chat = model.chat
    if chat is None:
        return {**described, "parameters": "\n".join(lines), "capabilities": ["completion", "tools"]}
    lines += [f"{'stop':<30} {stop!a}" for stop in chat.chat_format.stop]
    capabilities = ["completion", "tools", *["insert"] * chat.infills, *["thinking"] * chat.thinks]
    return {
        **described,
        "parameters": "\n".join(lines),
        "template": chat.chat_format.source,
        "capabilities": capabilities,
    }


def _details(model: Described) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "onnx",
        "family": model.manifest.architecture,
        "families": [model.manifest.architecture],
        "parameter_size": "",
        "quantization_level": model.manifest.dtype,
    }


def _time(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
