"""What the routes share: what is served, and the state of the server around it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from sanic import Request

from infrs.api.common.errors import ModelLoadingError
from infrs.api.responses.store import ResponseStore
from infrs.config.settings import Settings
from infrs.engine.service import EngineService
from infrs.errors import DrainingError, InfrsError, ModelNotFoundError, QueueFullError, RequestError
from infrs.http.observability.tracing import Traces
from infrs.metrics import Metrics
from infrs.models.bridge import Bridge
from infrs.models.embedding_model import EmbeddingModel
from infrs.models.embedding_service import EmbeddingService
from infrs.models.loaded import LoadedModel, Served
from infrs.models.text_pool import TextPool

T = TypeVar("T")


@dataclass
class ServerState:
    """One server. Everything but the pool's work happens on the event loop."""

    settings: Settings
    metrics: Metrics = field(default_factory=Metrics)
    served: Served | None = None
    chat: tuple[LoadedModel, Bridge] | None = None
    traces: Traces | None = None  # where server.traces is set
    embeddings: EmbeddingService = field(init=False)
    draining: bool = False
    stalled: InfrsError | None = None  # what /ready says of a thread that makes no progress: see watch.py
    num_in_flight: Counter[str] = field(default_factory=Counter)
    idle: asyncio.Event = field(default_factory=asyncio.Event)  # set while nothing is in flight
    exit_code: int = 0
    start_error: InfrsError | None = None  # why there is no model
    responses: ResponseStore = field(init=False)
    text: TextPool = field(init=False)

    def __post_init__(self) -> None:
        self.idle.set()
        self.embeddings = EmbeddingService(self.settings.engine.max_queue)
        server = self.settings.server
        self.text = TextPool(server.request_timeout)
        self.responses = ResponseStore(server.max_stored_responses, server.stored_responses_mb << 20)
        self.metrics.gauge("infrs_stored_responses", "Responses that are kept.", lambda: self.responses.num_responses)
        self.metrics.gauge("infrs_stored_responses_bytes", "What they take.", lambda: self.responses.num_bytes)

    def require(self) -> tuple[LoadedModel, Bridge]:
        """The chat model and the way to its engine.

        Raises DrainingError, ModelLoadingError, RequestError if this server has none.
        """
        served = self.require_loaded()
        if self.chat is None:
            raise RequestError(
                f"this server has no chat model; it serves {', '.join(served.embedding)} for POST /v1/embeddings",
                param="model",
                code="model_not_supported",
            )
        return self.chat

    def require_loaded(self) -> Served:
        """All that is served. Raises DrainingError, ModelLoadingError."""
        if self.draining:
            raise DrainingError("the server is shutting down; send the request to another one")
        if self.served is None:
            raise ModelLoadingError("the model is still loading; try again in a moment")
        return self.served

    def embedding_model(self, model_id: str) -> EmbeddingModel:
        """An embedding model, by its id.

        Raises DrainingError, ModelLoadingError, RequestError for a chat model's id, ModelNotFoundError.
        """
        served = self.require_loaded()
        if model_id in served.embedding:
            return served.embedding[model_id]
        ours = ", ".join(served.embedding) or "no embedding model: name one in `models`"
        if served.chat is not None and model_id == served.chat.model_id:
            raise RequestError(
                f"{model_id} is a chat model, which makes no embeddings; this server serves {ours}",
                param="model",
                code="model_not_supported",
            )
        raise not_served(model_id, ours)

    def refuse_if_full(self) -> None:
        """Raise QueueFullError when as many requests to the chat model are in flight as may run and wait."""
        model, _ = self.require()
        stats = model.engine.snapshot()
        if self.num_in_flight["chat"] >= stats.num_rows + stats.max_queue:
            raise QueueFullError(
                f"{stats.num_rows} requests run and {stats.max_queue} wait, as many as this server takes; "
                "try again in a moment"
            )

    def refuse_if_embeddings_full(self) -> None:
        """Raise QueueFullError when as many requests for embeddings are in flight as may run and wait."""
        self.require_loaded()
        waiting = self.settings.engine.max_queue
        if self.num_in_flight["embedding"] > waiting:
            raise QueueFullError(
                f"{waiting} requests for embeddings wait, as many as this server takes; try again in a moment"
            )

    def admitted(self) -> AbstractContextManager[None]:
        """Count a request to the chat model as in flight. Raises as `refuse_if_full`."""
        self.refuse_if_full()
        return self._counted("chat")

    def embedding_admitted(self) -> AbstractContextManager[None]:
        """Count a request for embeddings as in flight. Raises as `refuse_if_embeddings_full`."""
        self.refuse_if_embeddings_full()
        return self._counted("embedding")

    @contextmanager
    def _counted(self, kind: str) -> Iterator[None]:
        self.num_in_flight[kind] += 1
        self.idle.clear()
        try:
            yield
        finally:
            self.num_in_flight[kind] -= 1
            if not self.num_in_flight.total():
                self.idle.set()

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run work on text off the event loop; see `TextPool.run`. No more wait for it than are `admitted`."""
        return await self.text.run(work)

    def publish(self, served: Served) -> None:
        """Begin to serve, on the event loop."""
        self.served = served
        self.embeddings.start()
        self.metrics.gauge(
            "infrs_embedding_requests_open",
            "Requests for embeddings that run or wait.",
            lambda: self.embeddings.snapshot().num_open,
        )
        if served.chat is not None:
            self._publish_chat(served.chat)

    def _publish_chat(self, model: LoadedModel) -> None:
        self.chat = model, Bridge(model.engine)
        engine = model.engine
        engine.observer = self.traces or self.metrics
        self.metrics.total(
            "infrs_guessed_tokens", "Tokens guessed ahead.", lambda: engine.snapshot().num_guessed_tokens
        )
        self.metrics.total(
            "infrs_confirmed_tokens", "Guesses that were right.", lambda: engine.snapshot().num_confirmed_tokens
        )
        self.metrics.total(
            "infrs_preemptions", "Sequences put out of a slot.", lambda: engine.snapshot().num_preemptions
        )
        self.metrics.gauge("infrs_requests_running", "Sequences in a slot.", lambda: engine.snapshot().num_running)
        self.metrics.gauge("infrs_requests_waiting", "Requests in the queue.", lambda: engine.snapshot().num_waiting)

        def kv_used() -> float:
            stats = engine.snapshot()
            return stats.num_held_tokens / (stats.num_rows * stats.max_model_len)

        self.metrics.gauge("infrs_kv_used_ratio", "Part of the slots' tokens that running sequences hold.", kv_used)

    @property
    def services(self) -> list[EngineService | EmbeddingService]:
        """The threads that do the work, once they have begun."""
        return [*([self.chat[0].engine] if self.chat else []), self.embeddings]

    def fail_all(self, error: InfrsError) -> None:
        """End every request in flight with an error."""
        if self.chat is not None:
            self.chat[1].fail_all(error)
        self.embeddings.fail_all(error)
        self.text.fail_all(error)


def not_served(model_id: str, ours: str) -> ModelNotFoundError:
    """The error of a request that names a model which is none of `ours`."""
    return ModelNotFoundError(f"{model_id[:100]!a} is not served here; this server serves {ours}", param="model")


def state_of(request: Request) -> ServerState:
    """The state of the server that a request came to."""
    state: ServerState = request.app.ctx.state
    return state
