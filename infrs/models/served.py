"""A model in service: it admits requests, runs them and drains. Everything here belongs to one event loop."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from infrs.config.settings import EngineSettings
from infrs.core import Request, RequestContext
from infrs.engine.service import EngineService, Observer
from infrs.errors import InfrsError, QueueFullError
from infrs.metrics import ChatMetrics, Metrics, ModelMetrics
from infrs.models.bridge import Bridge, DeltaStream
from infrs.models.embedding_model import EmbeddingModel
from infrs.models.embedding_service import EmbeddingService
from infrs.models.encoder import Vector
from infrs.models.loaded import LoadedModel

_LAST_WORDS_SECONDS = 1.0  # for failed requests to report their error
_STOP_SECONDS = 5.0  # for a worker thread to end

Observe = Callable[[ChatMetrics], Observer]


class Stats(Protocol):
    """A snapshot of a worker thread."""

    @property
    def num_open(self) -> int:
        """Return the number of requests that run or wait."""

    @property
    def last_progress(self) -> float:
        """Return when the thread last finished a unit of work, in monotonic seconds."""


class Service(Protocol):
    """A worker thread that runs requests."""

    @property
    def alive(self) -> bool:
        """Return whether the thread runs and takes requests."""

    def snapshot(self) -> Stats:
        """Return its current counts."""

    def stop(self, timeout: float) -> None:
        """Stop the thread and wait `timeout` seconds for it."""


class ServedModel(ABC):
    """What chat and embedding models have in common: admission, the wait for idleness and the drain."""

    model: LoadedModel | EmbeddingModel
    service: Service
    metrics: ModelMetrics

    def __init__(self) -> None:
        self.num_in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._refusal: InfrsError | None = None

    @property
    def model_id(self) -> str:
        """Return the id under which the model is served."""
        return self.model.model_id

    def disturbed_file(self) -> Path | None:
        """Return a file of the model's bundle that another program changes, or None."""
        return self.model.files.disturbed() if self.model.files is not None else None

    @abstractmethod
    def refuse_if_full(self) -> None:
        """Raise QueueFullError when as many requests are in flight as may run and wait."""

    @abstractmethod
    def fail_all(self, error: InfrsError) -> None:
        """End every submitted request with an error."""

    @contextlib.contextmanager
    def admitted(self) -> Iterator[None]:
        """Count a request as in flight. Raises QueueFullError."""
        self.refuse_if_full()
        self.num_in_flight += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.num_in_flight -= 1
            if not self.num_in_flight:
                self._idle.set()

    async def wait_idle(self, seconds: float) -> bool:
        """Wait at most `seconds` until no request is in flight, and return whether none is."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        return self._idle.is_set()

    async def drain(self, seconds: float, error: InfrsError) -> None:
        """Wait at most `seconds` for the requests in flight, end the others with `error`, stop the worker thread.

        The caller ensures that no new request is admitted.
        """
        idle = await self.wait_idle(seconds)
        self._refusal = error
        if not idle:
            self.fail_all(error)
            await self.wait_idle(_LAST_WORDS_SECONDS)
        await asyncio.to_thread(self.service.stop, _STOP_SECONDS)
        self.metrics.close()
        if self.model.files is not None:
            self.model.files.close()

    def _check_open(self) -> None:
        """Raise the error of a drain that ended before the caller submitted its request."""
        if self._refusal is not None:
            raise self._refusal


class ServedChatModel(ServedModel):
    """A chat model in service, with the bridge to its engine thread."""

    model: LoadedModel
    service: EngineService
    metrics: ChatMetrics

    def __init__(self, model: LoadedModel, metrics: Metrics, observe: Observe) -> None:
        """Start the engine thread. `observe`: wraps the metrics in another observer of the engine, for traces."""
        super().__init__()
        self.model, self.service = model, model.engine
        self.metrics = ChatMetrics(metrics, model.model_id)
        self._export_stats(metrics)
        model.engine.observer = observe(self.metrics)
        model.engine.start()
        self._bridge = Bridge(model.engine)

    def submit(self, requests: Sequence[Request], context: RequestContext, queue_timeout: float) -> DeltaStream:
        """Start the requests of one client request, all or none; the stream has the deltas of all.

        Each gets the tenant of the context. The stream fails with RequestTimeoutError at the context's deadline, and
        if no request has a slot after `queue_timeout` seconds. Raises QueueFullError, DrainingError, EngineError, and
        the error of a drain that has ended.
        """
        self._check_open()
        stream = self._bridge.submit(requests, context)
        self._bridge.limit_wait(stream, queue_timeout)
        return stream

    def refuse_if_full(self) -> None:
        """See ServedModel."""
        stats = self.service.snapshot()
        if self.num_in_flight >= stats.num_rows + stats.max_queue:
            raise QueueFullError(
                f"{stats.num_rows} requests run and {stats.max_queue} wait, as many as this server takes; "
                "try again in a moment"
            )

    def fail_all(self, error: InfrsError) -> None:
        """See ServedModel."""
        self._bridge.fail_all(error)

    def _export_stats(self, metrics: Metrics) -> None:
        bind, total, read = self.metrics.bind, self.metrics.bind_total, self.service.snapshot
        for family in (metrics.draft_tokens, metrics.guessed_tokens):
            total(family, lambda: read().num_draft_tokens)
        for family in (metrics.accepted_tokens, metrics.confirmed_tokens):
            total(family, lambda: read().num_accepted_tokens)
        total(metrics.preemptions, lambda: read().num_preemptions)
        bind(metrics.running).set_function(lambda: read().num_running)
        bind(metrics.waiting).set_function(lambda: read().num_waiting)

        def kv_used() -> float:
            stats = read()
            return stats.num_cached_tokens / (stats.num_rows * stats.max_model_len)

        bind(metrics.kv_used).set_function(kv_used)


class ServedEmbeddingModel(ServedModel):
    """An embedding model in service, with its worker thread."""

    model: EmbeddingModel
    service: EmbeddingService
    metrics: ModelMetrics

    def __init__(self, model: EmbeddingModel, settings: EngineSettings, metrics: Metrics) -> None:
        """Start the worker thread. At most `settings.max_queue` requests wait for it."""
        super().__init__()
        self.model, self._max_queue = model, settings.max_queue
        self.service = EmbeddingService(model.encoder, settings.max_queue)
        self.service.start()
        self.metrics = ModelMetrics(metrics, model.model_id)
        self.metrics.bind(metrics.embedding_open).set_function(lambda: self.service.snapshot().num_open)

    async def embed(self, texts: Sequence[Sequence[int]], context: RequestContext) -> list[Vector]:
        """Return the vectors of texts, given as token ids, in order. To cancel it skips the texts that have not begun.

        Raises RequestTimeoutError at the context's deadline, QueueFullError, DrainingError, EngineError.
        """
        self._check_open()
        try:
            async with asyncio.timeout(context.remaining):
                return await asyncio.wrap_future(self.service.submit(texts))
        except TimeoutError:
            raise context.timeout_error() from None

    def refuse_if_full(self) -> None:
        """See ServedModel."""
        if self.num_in_flight > self._max_queue:
            raise QueueFullError(
                f"{self._max_queue} requests for embeddings wait, as many as this server takes; try again in a moment"
            )

    def fail_all(self, error: InfrsError) -> None:
        """See ServedModel."""
        self.service.fail_all(error)
