"""The models of a process, by id: load, unload, find and list. Usable without HTTP."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

from infrs.config.settings import EngineSettings
from infrs.errors import (
    ConfigError,
    EngineError,
    InfrsError,
    ModelLoadingError,
    ModelNotFoundError,
    ModelUnloadedError,
    QueueFullError,
    RequestError,
)
from infrs.metrics import Metrics
from infrs.models.embedding_model import EmbeddingModel
from infrs.models.loaded import LoadedModel
from infrs.models.served import Observe, ServedChatModel, ServedEmbeddingModel, ServedModel

OpenModel = Callable[[EngineSettings], LoadedModel | EmbeddingModel]
Kind = TypeVar("Kind", bound=ServedModel)


class ModelState(StrEnum):
    """Where a model is in its life. An unloaded model has no entry."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    UNLOADING = "unloading"


@dataclass(eq=False)
class RegistryEntry:
    """One model of a registry. served: the model once it is ready. error: why it does not answer."""

    model_id: str
    aliases: frozenset[str]
    settings: EngineSettings
    state: ModelState = ModelState.LOADING
    served: ServedModel | None = None
    error: InfrsError | None = None


class ModelRegistry:
    """Chat and embedding models by id, each with its own engine, settings, queue and metrics.

    All methods belong to one event loop. The models run on threads of their own.
    """

    def __init__(self, metrics: Metrics | None = None, observe: Observe = lambda metrics: metrics) -> None:
        """metrics: exports the models' metrics, with the label `model`. observe: see ServedChatModel."""
        self._metrics = metrics or Metrics()
        self._observe = observe
        self._entries: dict[str, RegistryEntry] = {}  # by id, in the order of their loading
        self._aliases: dict[str, str] = {}  # id by alias

    async def load(
        self,
        model_id: str,
        open_model: OpenModel,
        settings: EngineSettings = EngineSettings(),  # noqa: B008  # frozen
        aliases: Iterable[str] = (),
    ) -> ServedModel:
        """Open a model in a thread and serve it as `model_id`; its requests may use an alias instead.

        `open_model` gets the settings, such as `partial(infrs.models.load.load_model, bundle, ModelSettings())`.
        Raises ConfigError if a name is in use, and what `open_model` raises. The entry of a failed load stays, with its
        error, until the model is loaded again or unloaded.
        """
        entry = RegistryEntry(model_id, frozenset(aliases), settings)
        self._claim(entry)
        try:
            model = await asyncio.to_thread(open_model, settings)
        except asyncio.CancelledError:
            self._remove(entry)
            raise
        except Exception as error:
            entry.state = ModelState.FAILED
            entry.error = error if isinstance(error, InfrsError) else EngineError(f"{model_id} could not be loaded")
            raise
        model = replace(model, model_id=model_id)
        if isinstance(model, LoadedModel):
            entry.served = ServedChatModel(model, self._metrics, self._observe)
        else:
            entry.served = ServedEmbeddingModel(model, settings, self._metrics)
        entry.state = ModelState.READY
        return entry.served

    async def unload(self, name: str, drain_seconds: float = 0.0) -> None:
        """Stop serving a model and free it. Other models are not affected.

        Its requests in flight have `drain_seconds` to finish; those that do not fail with ModelUnloadedError.
        Raises ModelNotFoundError, ModelLoadingError.
        """
        entry = self._find(name)
        if entry is None:
            raise not_served(name, ", ".join(self._entries))
        if entry.state is ModelState.LOADING:
            raise ModelLoadingError(f"{entry.model_id} is still loading; unload it later")
        if entry.served is not None:
            entry.state, served = ModelState.UNLOADING, entry.served
            entry.error = ModelUnloadedError(f"{entry.model_id} is being unloaded; use another model")
            error = ModelUnloadedError(f"{entry.model_id} was unloaded before the answer was complete")
            await served.drain(drain_seconds, error)
        self._remove(entry)
        gc.unfreeze()  # the collector can free the model too; see `infrs.models.load.load_models`

    async def close(self, error: InfrsError) -> None:
        """Unload all models; requests that are in flight fail with `error`."""
        models = self.models
        self._entries.clear()
        self._aliases.clear()
        await asyncio.gather(*(model.drain(0, error) for model in models))

    @property
    def entries(self) -> list[RegistryEntry]:
        """Return all entries, in the order of their loading."""
        return list(self._entries.values())

    @property
    def models(self) -> list[ServedModel]:
        """Return the models that are ready, chat models first."""
        return [*self.chat_models, *self.embedding_models]

    @property
    def chat_models(self) -> list[ServedChatModel]:
        """Return the chat models that are ready."""
        return self._ready(ServedChatModel)

    @property
    def embedding_models(self) -> list[ServedEmbeddingModel]:
        """Return the embedding models that are ready."""
        return self._ready(ServedEmbeddingModel)

    def find(self, name: str) -> ServedModel:
        """Return the model of an id or alias. Raises ModelNotFoundError, ModelLoadingError, a failed load's error."""
        served = self._served(name)
        if served is None:
            raise not_served(name, _ids(self.models))
        return served

    def find_chat(self, name: str | None) -> ServedChatModel:
        """Return the chat model of an id or alias; None stands for the only one.

        Raises RequestError for an embedding model and for a name that is missing, and as `find`.
        """
        served = None if name is None else self._served(name)
        if isinstance(served, ServedChatModel):
            return served
        ours = self._require_chat_models()
        if served is not None:
            raise _wrong_kind(f"{name} is an embedding model, which POST /v1/embeddings takes; here it is {_ids(ours)}")
        if name is not None:
            raise not_served(name, _ids(ours))
        if len(ours) > 1:
            raise RequestError(f"model: this server has several chat models; name one of {_ids(ours)}", param="model")
        return ours[0]

    def find_embedding(self, name: str) -> ServedEmbeddingModel:
        """Return the embedding model of an id or alias. Raises RequestError for a chat model, and as `find`."""
        served = self._served(name)
        if isinstance(served, ServedEmbeddingModel):
            return served
        ours = _ids(self.embedding_models) or "no embedding model: name one in `models`"
        if served is not None:
            raise _wrong_kind(f"{name} is a chat model, which makes no embeddings; this server serves {ours}")
        raise not_served(name, ours)

    def refuse_if_full(self, kind: type[ServedModel], tenant: str) -> None:
        """Raise QueueFullError if all models of a kind are full for a tenant, RequestError if there is no chat model.

        For the moment before a request names its model.
        """
        models = self._require_chat_models() if kind is ServedChatModel else self._ready(kind)
        full: QueueFullError | None = None
        for model in models:
            try:
                model.refuse_if_full(tenant)
            except QueueFullError as error:
                full = error
            else:
                return
        if full is not None:
            raise full

    @property
    def num_in_flight(self) -> int:
        """Return the number of admitted requests, of all models."""
        return sum(model.num_in_flight for model in self.models)

    async def wait_idle(self, seconds: float) -> bool:
        """Wait at most `seconds` until no model has a request in flight, and return whether none has."""
        return all(await asyncio.gather(*(model.wait_idle(seconds) for model in self.models)))

    def fail_all(self, error: InfrsError) -> None:
        """End every submitted request of all models with an error."""
        for model in self.models:
            model.fail_all(error)

    def _claim(self, entry: RegistryEntry) -> None:
        """Enter a model under its names, in place of one of the same id that failed to load."""
        previous = self._entries.get(entry.model_id)
        if previous is not None and previous.state is ModelState.FAILED:
            self._remove(previous)
        taken = sorted({entry.model_id, *entry.aliases} & (self._entries.keys() | self._aliases.keys()))
        if taken:
            raise ConfigError(f"{taken[0]} already names a model; unload that one first, or use another name")
        self._entries[entry.model_id] = entry
        self._aliases.update(dict.fromkeys(entry.aliases, entry.model_id))

    def _remove(self, entry: RegistryEntry) -> None:
        del self._entries[entry.model_id]
        for alias in entry.aliases:
            del self._aliases[alias]

    def _find(self, name: str) -> RegistryEntry | None:
        return self._entries.get(self._aliases.get(name, name))

    def _served(self, name: str) -> ServedModel | None:
        """Return the ready model of a name, None for an unknown name. Raises the error of one that is not ready."""
        entry = self._find(name)
        if entry is None:
            return None
        if entry.state is ModelState.READY:
            return entry.served
        raise entry.error or ModelLoadingError(f"{entry.model_id} is still loading; try again in a moment")

    def _ready(self, kind: type[Kind]) -> list[Kind]:
        ready = (entry.served for entry in self._entries.values() if entry.state is ModelState.READY)
        return [served for served in ready if isinstance(served, kind)]

    def _require_chat_models(self) -> list[ServedChatModel]:
        """Return the chat models. Raises RequestError if there is none."""
        models = self.chat_models
        if not models:
            ours = _ids(self.embedding_models)
            raise _wrong_kind(f"this server has no chat model; it serves {ours} for POST /v1/embeddings")
        return models


def not_served(name: str, ours: str) -> ModelNotFoundError:
    """Return the error of a request for a model that is none of `ours`."""
    return ModelNotFoundError(f"{name[:100]!a} is not served here; this server serves {ours}", param="model")


def _wrong_kind(message: str) -> RequestError:
    return RequestError(message, param="model", code="model_not_supported")


def _ids(models: Iterable[ServedModel]) -> str:
    return ", ".join(model.model_id for model in models)
