"""`/v1/models`: the requests that load and unload a model, and the descriptions of models."""

from __future__ import annotations

from typing import Any

from infrs.api.common.fields import Body, Model
from infrs.api.output import bodies
from infrs.models.encoders.served import ServedClassifier, ServedEmbeddingModel
from infrs.models.registry import ModelState, RegistryEntry
from infrs.models.served import ServedChatModel

STATUS = {  # the words of llama.cpp's router, where it has one
    ModelState.UNLOADED: "unloaded",
    ModelState.LOADING: "loading",
    ModelState.READY: "loaded",
    ModelState.FAILED: "failed",
    ModelState.UNLOADING: "unloading",
}
# The words of LM Studio, which has no classifiers.
TYPES = {ServedChatModel: "llm", ServedEmbeddingModel: "embeddings", ServedClassifier: "classifier"}


class UnloadRequest(Body):
    """A model to unload."""

    model: Model


class LoadRequest(Body):
    """A model to load. reload: load it again although the server has its newest bundle."""

    model: Model
    reload: bool = False


def describe(entry: RegistryEntry) -> dict[str, Any]:
    """Return a model as OpenAI describes it, with its state as llama.cpp's router does.

    A model that is not loaded has no `max_model_len`, and no `type` if that is not known before a load.
    """
    status: dict[str, object] = {"value": STATUS[entry.state]}
    if entry.state is ModelState.FAILED and entry.error is not None:
        status["error"] = entry.refusal(entry.error).message
    kind = {"type": TYPES[entry.kind]} if entry.kind in TYPES else {}
    model = None if entry.served is None else entry.served.model
    return {
        **bodies.model(entry.model_id, entry.created, None if model is None else model.max_model_len),
        **kind,
        "aliases": sorted(entry.aliases),
        "status": status,
    }
