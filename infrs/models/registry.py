"""The models of a process, by id: load, unload, find, use and list. Usable without HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable, Iterator

from infrs.config.settings import EngineSettings
from infrs.core import RequestContext
from infrs.errors import (
    InfrsError,
    ModelLoadingError,
    ModelUnloadedError,
    QueueFullError,
    RequestTimeoutError,
)
from infrs.metrics import Metrics
from infrs.models.catalogue import Catalogue, Kind
from infrs.models.encoders.served import ServedClassifier, ServedEmbeddingModel
from infrs.models.residency.decide import ModelState
from infrs.models.residency.keeper import Keeper
from infrs.models.residency.model_entry import RegistryEntry
from infrs.models.residency.spec import Found, ModelSpec, OpenModel
from infrs.models.served import Observe, ServedChatModel, ServedModel

__all__ = ["ModelRegistry", "ModelState", "OpenModel", "RegistryEntry"]

logger = logging.getLogger("infrs.models")


class ModelRegistry:
    """Chat and embedding models by id, each with its own engine, settings, queue and metrics.

    All methods belong to one event loop. The models run on threads of their own.
    """

    def __init__(self, metrics: Metrics | None = None, observe: Observe = lambda metrics: metrics) -> None:
        """metrics: exports the models' metrics, with the label `model`. observe: see ServedChatModel."""
        self._catalogue = Catalogue()
        self._keeper = Keeper(self._catalogue.entries, metrics or Metrics(), observe)
        self.queue_timeout = 120.0  # seconds that a request waits for a model to load

    @property
    def budget(self) -> int | None:
        """Return the bytes that all models together may take, None for no bound."""
        return self._keeper.budget

    @budget.setter
    def budget(self, num_bytes: int | None) -> None:
        self._keeper.budget = num_bytes

    @property
    def load_timeout(self) -> float | None:
        """Return the seconds that a load may take, None for no bound."""
        return self._keeper.load_timeout

    @load_timeout.setter
    def load_timeout(self, seconds: float | None) -> None:
        self._keeper.load_timeout = seconds

    def add(self, spec: ModelSpec) -> RegistryEntry:
        """Enter a model without loading it. Raises ConfigError if a name is in use."""
        return self._catalogue.add(spec)

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
        error, until the model is loaded again or removed.
        """
        found = Found(open_model)
        entry = self.add(ModelSpec(model_id, lambda: found, found, settings, frozenset(aliases)))
        try:
            return await self.ensure_loaded(model_id)
        except asyncio.CancelledError:
            self._keeper.abandon(entry)
            self._catalogue.forget(entry)
            raise

    async def ensure_loaded(self, name: str, *, reload: bool = False) -> ServedModel:
        """Load a model, unless it is loaded from the files that are on disk now. Return it once it is ready.

        reload: load it in any case. The requests in flight finish with the copy that they began with.
        Raises ModelNotFoundError, OutOfMemoryError if it cannot fit, and what opening it raises.
        """
        entry = self.entry(name)
        if entry.state is not ModelState.READY or reload or await self._keeper.has_changed(entry):
            with self._waiting(entry, ""):
                error = await self._keeper.want(entry)
            if error is not None:
                raise error
        return self.find(entry.model_id)

    async def unload(self, name: str, drain_seconds: float = 0.0) -> None:
        """Free a model. The next request for it loads it again. Other models are not affected.

        Its requests in flight have `drain_seconds` to finish; those that do not fail with ModelUnloadedError.
        Raises ModelNotFoundError, ModelLoadingError.
        """
        entry = self.entry(name)
        if entry.is_opening:
            raise ModelLoadingError(f"{entry.model_id} is still loading; unload it later")
        await self._keeper.unload(entry, drain_seconds)

    async def expire(self, name: str) -> None:
        """Unload a model as soon as no request needs it, and wait for that if none does now.

        Raises ModelNotFoundError, RequestError for a pinned model.
        """
        await self._keeper.expire(self.entry(name))

    async def remove(self, name: str, drain_seconds: float = 0.0) -> None:
        """Unload a model and forget it. Raises as `unload` does."""
        entry = self.entry(name)
        if entry.is_opening:
            raise ModelLoadingError(f"{entry.model_id} is still loading; remove it later")
        entry.is_removed = True
        await self._keeper.unload(entry, drain_seconds)
        entry.loaded(ModelUnloadedError(f"{entry.model_id} was removed; use another model"))
        self._catalogue.forget(entry)

    async def close(self, error: InfrsError) -> None:
        """Unload all models; requests that are in flight or wait for a model fail with `error`."""
        await self._keeper.close(error)
        self._catalogue.clear()

    @property
    def entries(self) -> list[RegistryEntry]:
        """Return all entries, in the order of their addition."""
        return list(self._catalogue.entries.values())

    @property
    def listed(self) -> list[RegistryEntry]:
        """Return all entries, chat models first."""
        return self._catalogue.listed

    @property
    def models(self) -> list[ServedModel]:
        """Return the models that are ready, chat models first."""
        return self._catalogue.models

    @property
    def chat_models(self) -> list[ServedChatModel]:
        """Return the chat models that are ready."""
        return self._catalogue.ready(ServedChatModel)

    @property
    def embedding_models(self) -> list[ServedEmbeddingModel]:
        """Return the embedding models that are ready."""
        return self._catalogue.ready(ServedEmbeddingModel)

    @property
    def classifiers(self) -> list[ServedClassifier]:
        """Return the classifiers that are ready."""
        return self._catalogue.ready(ServedClassifier)

    def entry(self, name: str) -> RegistryEntry:
        """Return the entry of an id or alias. Raises ModelNotFoundError."""
        return self._catalogue.entry(name)

    def find(self, name: str) -> ServedModel:
        """Return the ready model of an id or alias.

        Raises ModelNotFoundError, ModelLoadingError for a model that is not loaded, a failed load's error.
        """
        return _require_ready(self.entry(name))

    def find_chat(self, name: str | None) -> ServedChatModel:
        """Return the ready chat model of an id or alias; None stands for the only one.

        Raises RequestError for an embedding model and for a name that is missing, and as `find`.
        """
        return self._catalogue.checked(ServedChatModel, _require_ready(self._catalogue.chat_entry(name)))

    def find_encoder(self, kind: type[Kind], name: str) -> Kind:
        """Return the ready encoder of an id or alias. Raises RequestError for one of another kind, and as `find`."""
        return self._catalogue.checked(kind, _require_ready(self._catalogue.encoder_entry(kind, name)))

    @contextlib.asynccontextmanager
    async def use_chat(self, name: str | None, context: RequestContext) -> AsyncIterator[ServedChatModel]:
        """Admit a request to a chat model for the block, which loads it if necessary.

        Raises as `find_chat`, QueueFullError, RequestTimeoutError, OutOfMemoryError, ModelLoadError.
        """
        async with self._use(self._catalogue.chat_entry(name), context) as served:
            yield self._catalogue.checked(ServedChatModel, served)

    @contextlib.asynccontextmanager
    async def use_encoder(self, kind: type[Kind], name: str, context: RequestContext) -> AsyncIterator[Kind]:
        """Admit a request to an encoder for the block, which loads it if necessary. Raises as `use_chat`."""
        async with self._use(self._catalogue.encoder_entry(kind, name), context) as served:
            yield self._catalogue.checked(kind, served)

    def refuse_if_full(self, kind: type[ServedModel], tenant: str) -> None:
        """Raise QueueFullError if all models of a kind are full for a tenant, RequestError if there is no chat model.

        For the moment before a request names its model.
        """
        entries = self._catalogue.require_chat() if kind is ServedChatModel else self._catalogue.of_kind(kind)
        full: QueueFullError | None = None
        for entry in entries:
            try:
                entry.refuse_if_full(tenant)
            except QueueFullError as error:
                full = error
            else:
                return
        if full is not None:
            raise full

    @property
    def num_in_flight(self) -> int:
        """Return the number of requests that run or wait, of all models."""
        return sum(entry.num_users for entry in self.entries)

    async def wait_idle(self, seconds: float) -> bool:
        """Wait at most `seconds` until no model has a request in flight, and return whether none has."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.num_in_flight:
                    loads = [entry.until_loaded() for entry in self.entries if entry.waiting.total()]
                    copies = [copy for entry in self.entries for copy in entry.copies]
                    await asyncio.gather(*(copy.wait_idle(seconds) for copy in copies), *loads)
                    await asyncio.sleep(0)  # requests that wait for a model that is loaded now are admitted
        return not self.num_in_flight

    def fail(self, served: ServedModel, error: InfrsError) -> None:
        """Stop a model that no longer works, and end its requests with an error. The next request loads it again."""
        self._keeper.fail(self._catalogue.entries[served.model_id], error)

    def fail_all(self, error: InfrsError) -> None:
        """End every request of all models with an error, also those that wait for a model."""
        for entry in self.entries:
            entry.loaded(error)
            for copy in entry.copies:
                copy.fail_all(error)

    @contextlib.asynccontextmanager
    async def _use(self, entry: RegistryEntry, context: RequestContext) -> AsyncIterator[ServedModel]:
        with contextlib.ExitStack() as stack:
            if entry.state is ModelState.READY:
                served = _require_ready(entry)
                stack.enter_context(served.admitted(context.tenant))
            else:
                with self._waiting(entry, context.tenant):  # until it is admitted: it keeps the model loaded
                    served = await self._until_ready(entry, context)
                    stack.enter_context(served.admitted(context.tenant))
            yield served

    @contextlib.contextmanager
    def _waiting(self, entry: RegistryEntry, tenant: str) -> Iterator[None]:
        """Count a request as one that waits for a model to load. Raises QueueFullError."""
        try:
            with entry.waiting_request(tenant):
                yield
        finally:
            self._keeper.tick()  # a model that no request needs any more can make room for another

    async def _until_ready(self, entry: RegistryEntry, context: RequestContext) -> ServedModel:
        """Load a model and return it. The load continues if this request ends before."""
        late = RequestTimeoutError(
            f"{entry.model_id} was not loaded within the {self.queue_timeout:g} s that this server lets a request wait"
        )
        if context.remaining < self.queue_timeout:
            late = context.timeout_error()
        try:
            async with asyncio.timeout(min(self.queue_timeout, context.remaining)):
                while entry.state is not ModelState.READY:
                    error = await self._keeper.want(entry)
                    if error is not None:
                        raise entry.refusal(error)
        except TimeoutError:
            raise late from None
        return _require_ready(entry)


def _require_ready(entry: RegistryEntry) -> ServedModel:
    """Return the model of an entry. Raises its error, or ModelLoadingError, if it is not ready."""
    if entry.state is ModelState.READY and entry.served is not None:
        return entry.served
    if entry.error is not None:
        raise entry.error
    raise ModelLoadingError(f"{entry.model_id} is {_NOT_READY[entry.state]}; try again in a moment")


_NOT_READY = {
    ModelState.UNLOADED: "not loaded",
    ModelState.LOADING: "still loading",
    ModelState.READY: "still loading",
    ModelState.FAILED: "not loaded",
    ModelState.UNLOADING: "being unloaded",
}
