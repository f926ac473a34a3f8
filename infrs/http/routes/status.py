"""`/health`, `/ready`, `/props` and `/metrics`."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import orjson
from sanic import HTTPResponse, Request

from infrs import __version__
from infrs.bundle.manifest import Sampling
from infrs.errors import EngineError, ModelLoadError
from infrs.http.error_handler import JSON
from infrs.http.state import state_of
from infrs.metrics import CONTENT_TYPE
from infrs.models.encoders.classifier import ClassifierModel
from infrs.models.encoders.embedding_model import EmbeddingModel
from infrs.models.loaded import LoadedModel
from infrs.models.registry import ModelState
from infrs.models.residency.spec import AnyModel

_LIBRARIES = ("onnxruntime", "sanic", "tokenizers", "numpy")


async def health(request: Request) -> HTTPResponse:
    """Report that the event loop runs: liveness."""
    return HTTPResponse(b'{"status":"ok"}', content_type=JSON)


async def ready(request: Request) -> HTTPResponse:
    """Report that requests are served: models loaded, threads alive, no shutdown. Else 503 or 500 with the reason."""
    state = state_of(request)
    registry = state.require_models()
    dead = next((served for served in registry.models if not served.service.alive), None)
    if dead is not None:
        raise EngineError(f"the engine of {dead.model_id} has failed; restart the server")
    failed = next((each for each in registry.entries if each.spec.at_start and each.state is ModelState.FAILED), None)
    if failed is not None:
        raise ModelLoadError(f"{failed.model_id} is not loaded; GET /v1/models gives the reason")
    if state.stalled is not None:
        raise state.stalled
    return HTTPResponse(b'{"status":"ready"}', content_type=JSON)


async def props(request: Request) -> HTTPResponse:
    """Describe the models, settings and versions. The top level describes the first chat model, if there is one."""
    state = state_of(request)
    models = state.require_models()
    chat = models.chat_models[:1]
    private: dict[str, Any] = {"model": {"cache_dir"}, "models": {"__all__": {"cache_dir"}}}
    body = {
        **(_of_chat(chat[0].model) if chat else {}),
        "chat_models": [_of_chat(served.model) for served in models.chat_models],
        "embedding_models": [_of_embedding(served.model) for served in models.embedding_models],
        "classifiers": [_of_classifier(served.model) for served in models.classifiers],
        "settings": state.settings.model_dump(mode="json", exclude=private),
        "versions": {"infrs": __version__, **{name: version(name) for name in _LIBRARIES}},
    }
    return HTTPResponse(orjson.dumps(body), content_type=JSON)


def _of_any(model: AnyModel) -> dict[str, Any]:
    manifest = model.manifest
    return {
        "model": model.model_id,
        "source": manifest.source.model_dump(),
        "bundle": model.bundle.name,
        "architecture": manifest.architecture,
        "dtype": manifest.dtype,
        "recipe": manifest.recipe.model_dump(),
        "parity": manifest.parity,
        "model_context_length": manifest.context_length,
        "export_versions": manifest.tool_versions,
    }


def _of_chat(model: LoadedModel) -> dict[str, Any]:
    manifest, draft = model.manifest, model.draft
    return {
        **_of_any(model),
        "graph": {"kind": manifest.graph, "reason": manifest.graph_reason},
        "default_sampling_params": {name: getattr(model.sampling, name) for name in Sampling.model_fields},
        "draft_model": None if draft is None else {"model": draft.source.model_id, "dtype": draft.dtype},
        "engine": asdict(model.engine.snapshot()),
    }


def _of_embedding(model: EmbeddingModel) -> dict[str, Any]:
    manifest = model.manifest
    return {
        **_of_any(model),
        "dimensions": manifest.dimensions,
        "pooling": manifest.pooling,
        "normalized": manifest.normalized,
        "default_dimensions": manifest.default_dimensions,
        "shorter": manifest.shorter,
        "prompt": manifest.prompt,
        "prompts": manifest.prompts,
        "threads": model.encoder.threads,
    }


def _of_classifier(model: ClassifierModel) -> dict[str, Any]:
    manifest = model.manifest
    return {
        **_of_any(model),
        "labels": manifest.labels,
        "activation": manifest.activation,
        "threads": model.encoder.threads,
    }


async def metrics(request: Request) -> HTTPResponse:
    """Return the metrics in Prometheus' text format."""
    return HTTPResponse(state_of(request).metrics.render(), content_type=CONTENT_TYPE)
