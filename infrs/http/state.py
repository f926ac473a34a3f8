"""The state of one server, and the context of each of its requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from sanic import Request

from infrs.api.common.errors import FilesOffError
from infrs.api.responses.store import ResponseStore
from infrs.batches.service import Batches
from infrs.config.settings import Settings
from infrs.core import RequestContext
from infrs.errors import DrainingError, InfrsError, ModelLoadingError
from infrs.http.connection.limits import Connections
from infrs.http.observability.tracing import Traces
from infrs.metrics import Metrics
from infrs.models.registry import ModelRegistry
from infrs.models.text_pool import TextPool

T = TypeVar("T")


class ServerState:
    """One server. Everything but the work in threads happens on the event loop.

    loaded: whether the models of the start are loaded. stalled: why /ready fails although all threads are alive.
    start_error: why the models could not be loaded. batches: None if `server.files_dir` is not set.
    """

    def __init__(self, settings: Settings, traces: Traces | None = None) -> None:
        """`traces`: exports a span for each request."""
        server = settings.server
        self.settings = settings
        self.traces = traces
        self.metrics = Metrics()
        self.models = ModelRegistry(self.metrics) if traces is None else ModelRegistry(self.metrics, traces.observe)
        self.text = TextPool(settings.engine.max_num_seqs + settings.engine.max_queue, server.queue_timeout)
        self.responses = ResponseStore(server.max_stored_responses, server.stored_responses_mb << 20)
        self.connections = Connections(
            server.max_connections, server.max_connections_per_address, self.metrics.refused_connections.inc
        )
        self.batches: Batches | None = None
        self.loaded = False
        self.draining = False
        self.stalled: InfrsError | None = None
        self.stopping = asyncio.Event()
        self.exit_code = 0
        self.start_error: InfrsError | None = None
        self.metrics.gauge("stored_responses", "Stored responses.", lambda: self.responses.num_responses)
        self.metrics.gauge("stored_responses_bytes", "Size of the stored responses.", lambda: self.responses.num_bytes)
        self.metrics.gauge("stored_files_bytes", "Size of the stored files.", self._files_bytes)
        self.metrics.gauge("batch_rows", "Sequences of batches that run.", self._batch_rows)

    def stop(self, exit_code: int = 0) -> None:
        """Drain the server and end it."""
        self.exit_code = exit_code
        self.stopping.set()

    def require_models(self) -> ModelRegistry:
        """Return the models. Raises DrainingError, and ModelLoadingError during the start."""
        if self.draining:
            raise DrainingError("the server is shutting down; send the request to another one")
        if not self.loaded:
            raise ModelLoadingError("the model is still loading; try again in a moment")
        return self.models

    def require_batches(self) -> Batches:
        """Return the stored files and the batches. Raises FilesOffError."""
        if self.batches is None:
            raise FilesOffError("this server stores no files; set server.files_dir to a directory and restart it")
        return self.batches

    async def in_thread(self, work: Callable[[], T], context: RequestContext, *, is_long: bool = False) -> T:
        """Run text work off the event loop; see `TextPool.run`."""
        return await self.text.run(work, context, is_long=is_long)

    def _files_bytes(self) -> float:
        return self.batches.files.quota.num_bytes if self.batches is not None else 0

    def _batch_rows(self) -> float:
        return self.batches.pace.num_running if self.batches is not None else 0

    def fail_all(self, error: InfrsError) -> None:
        """End every request in flight with an error."""
        self.models.fail_all(error)
        self.text.fail_all(error)


def state_of(request: Request) -> ServerState:
    """Return the state of the server that received a request."""
    state: ServerState = request.app.ctx.state
    return state


def context_of(request: Request) -> RequestContext:
    """Return the context that the request guard made. Raises AttributeError if the guard has not run."""
    context: RequestContext = request.ctx.context
    return context
