"""A model in service: it admits requests, runs them and drains. Everything here belongs to one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Protocol

from infrs.core import Request, RequestContext
from infrs.engine.service import EngineService, Observer
from infrs.errors import InfrsError, QueueFullError
from infrs.metrics import ChatMetrics, Metrics, ModelMetrics
from infrs.models.bridge import Bridge, DeltaStream
from infrs.models.encoders.classifier import ClassifierModel
from infrs.models.encoders.embedding_model import EmbeddingModel
from infrs.models.loaded import LoadedModel

_LAST_WORDS_SECONDS = 1.0  # for failed requests to report their error
_STOP_SECONDS = 5.0  # for a worker thread to end
_KEPT_PART = 4  # a key leaves a quarter as many places as it has for other keys

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


def check_places(in_flight: Counter[str], num_places: int, tenant: str, full: Callable[[], str]) -> None:
    """Raise QueueFullError if a tenant may not add a request to those in flight, by tenant.

    A tenant with n requests leaves n / 4 places to others. full: describes a queue without any place.
    """
    free, own = num_places - in_flight.total(), in_flight[tenant] if tenant else 0
    if free <= 0:
        raise QueueFullError(f"{full()}, as many as this server takes; try again in a moment")
    if free <= own // _KEPT_PART:
        raise QueueFullError(
            f"{own} requests of this API key run or wait; other places are for other keys; try again in a moment"
        )


def _nothing() -> None:
    """Do nothing."""


class ServedModel(ABC):
    """What models of all kinds have in common: admission, the wait for idleness and the drain.

    noun: the kind, with an article. routes: the main routes of the kind. Both are for messages.
    """

    noun: ClassVar[str]
    routes: ClassVar[str]

    model: LoadedModel | EmbeddingModel | ClassifierModel
    service: Service
    metrics: ModelMetrics

    def __init__(self) -> None:
        self._in_flight: Counter[str] = Counter()  # requests by tenant
        self._idle = asyncio.Event()
        self._idle.set()
        self._refusal: InfrsError | None = None
        self.last_used = time.monotonic()
        self.on_idle: Callable[[], None] = _nothing

    @property
    def model_id(self) -> str:
        """Return the id under which the model is served."""
        return self.model.model_id

    def disturbed_file(self) -> Path | None:
        """Return a file of the model's bundle that another program changes, or None."""
        return self.model.files.disturbed() if self.model.files is not None else None

    @property
    def num_in_flight(self) -> int:
        """Return the number of requests that are admitted and not yet answered."""
        return self._in_flight.total()

    @property
    @abstractmethod
    def num_places(self) -> int:
        """Return how many requests may be in flight."""

    @abstractmethod
    def _full(self) -> str:
        """Describe a full queue."""

    def refuse_if_full(self, tenant: str) -> None:
        """Raise QueueFullError when as many requests are in flight as may run and wait.

        A tenant with n requests leaves n / 4 places to others; on a server without API keys, all requests may fill all.
        """
        check_places(self._in_flight, self.num_places, tenant, self._full)

    @abstractmethod
    def fail_all(self, error: InfrsError) -> None:
        """End every submitted request with an error."""

    @contextlib.contextmanager
    def admitted(self, tenant: str) -> Iterator[None]:
        """Count a request of a tenant as in flight. Raises QueueFullError."""
        self.refuse_if_full(tenant)
        self._in_flight[tenant] += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._in_flight -= Counter((tenant,))  # drops a tenant without requests
            self.last_used = time.monotonic()
            if not self._in_flight:
                self._idle.set()
                self.on_idle()

    async def wait_idle(self, seconds: float) -> bool:
        """Wait at most `seconds` until no request is in flight, and return whether none is."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        return self._idle.is_set()

    async def drain(self, seconds: float, error: InfrsError, *, is_replaced: bool = False) -> None:
        """Wait at most `seconds` for the requests in flight, end the others with `error`, stop the worker thread.

        is_replaced: the metrics stay, for another copy of the model has taken them over. The caller ensures that no new
        request is admitted.
        """
        idle = await self.wait_idle(seconds)
        self._refusal = error
        if not idle:
            self.fail_all(error)
            await self.wait_idle(_LAST_WORDS_SECONDS)
        await asyncio.to_thread(self.service.stop, _STOP_SECONDS)
        if not is_replaced:
            self.metrics.close()
        if self.model.files is not None:
            self.model.files.close()

    def _check_open(self) -> None:
        """Raise the error of a drain that ended before the caller submitted its request."""
        if self._refusal is not None:
            raise self._refusal


class ServedChatModel(ServedModel):
    """A chat model in service, with the bridge to its engine thread."""

    noun, routes = "a chat model", "POST /v1/chat/completions"
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

    @property
    def num_places(self) -> int:
        """See ServedModel."""
        stats = self.service.snapshot()
        return stats.num_rows + stats.max_queue

    def _full(self) -> str:
        stats = self.service.snapshot()
        return f"{stats.num_rows} requests run and {stats.max_queue} wait"

    def fail_all(self, error: InfrsError) -> None:
        """See ServedModel."""
        self._bridge.fail_all(error)

    def _export_stats(self, metrics: Metrics) -> None:
        bind, total, read = self.metrics.bind, self.metrics.bind_total, self.service.snapshot
        for family in (metrics.draft_tokens, metrics.guessed_tokens):
            total(family, lambda: read().num_draft_tokens)
        for family in (metrics.accepted_tokens, metrics.confirmed_tokens):
            total(family, lambda: read().num_accepted_tokens)
        total(metrics.model_draft_tokens, lambda: read().num_model_draft_tokens)
        total(metrics.model_accepted_tokens, lambda: read().num_model_accepted_tokens)
        total(metrics.preemptions, lambda: read().num_preemptions)
        bind(metrics.running).set_function(lambda: read().num_running)
        bind(metrics.waiting).set_function(lambda: read().num_waiting)

        def kv_used() -> float:
            stats = read()
            return stats.num_cached_tokens / (stats.num_rows * stats.max_model_len)

        bind(metrics.kv_used).set_function(kv_used)
