"""Carry deltas from the engine thread to the event loop, as batches that a coroutine awaits.

The engine's sink only appends to a deque and wakes the loop, once per step for all requests. If too many deltas wait
for one reader, the engine pauses its requests until the reader has taken them. It may preempt them meanwhile.
`infrs.http.connection.stalled_client` disconnects a client that reads nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from infrs.core import Delta, FinishReason, Request, RequestContext
from infrs.engine.service import EngineService
from infrs.errors import EngineError, InfrsError, RequestTimeoutError

_MAX_BACKLOG = 256 << 10  # bytes; about a thousand tokens, or a hundred with 20 log-probabilities each


def num_bytes(delta: Delta) -> int:
    """Return about how many bytes a delta takes, as objects or as JSON."""
    size = 256 + len(delta.text) + 8 * len(delta.token_ids)
    for scored in (delta.logprobs, delta.prompt_logprobs):
        if scored:
            size += sum(128 + 112 * len(entry.top) for entry in scored)
    return size


class DeltaStream:
    """An async iterator over batches of deltas of one or more requests that belong together.

    Close it in a `finally`. The first answer that fails ends it, after the deltas before the failure.
    """

    def __init__(
        self,
        requests: Sequence[Request],
        close: Callable[[DeltaStream], None],
        set_paused: Callable[[DeltaStream, bool], None],
    ) -> None:
        """set_paused: pauses or resumes the unfinished requests."""
        self._open = {request.request_id: request.num_choices for request in requests}  # number of unfinished answers
        self._deltas: list[Delta] = []
        self._backlog = 0  # bytes of `_deltas`
        self._is_paused = False
        self._error: InfrsError | None = None
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._interrupted = False
        self.waiting_since: float | None = None  # the loop's time; None while no reader waits
        self._close = close
        self._set_paused = set_paused

    @property
    def open_ids(self) -> list[str]:
        """Return the ids of the unfinished requests."""
        return list(self._open)

    def __aiter__(self) -> DeltaStream:
        return self

    async def __anext__(self) -> list[Delta]:
        """Return at least one delta, or none after an interruption. Raises the error of a failed answer."""
        self._interrupted = False
        while not self._deltas and not self._interrupted:
            if self._error is not None:
                raise self._error
            if not self._open:
                raise StopAsyncIteration
            self._wake.clear()
            self.waiting_since = self._loop.time()
            try:
                await self._wake.wait()
            finally:
                self.waiting_since = None
        deltas, self._deltas, self._backlog = self._deltas, [], 0
        if self._is_paused:
            self._is_paused = False
            self._set_paused(self, False)
        return deltas

    def interrupt(self) -> None:
        """Wake the reader without a delta."""
        self._interrupted = True
        self._wake.set()

    def close(self) -> None:
        """Cancel the unfinished requests and release the stream. Idempotent."""
        self._close(self)

    def feed(self, delta: Delta) -> None:
        """Add a delta, on the event loop."""
        if delta.finish_reason is not None:
            self._open[delta.request_id] -= 1
            if not self._open[delta.request_id]:
                del self._open[delta.request_id]
        if delta.finish_reason in (FinishReason.ERROR, FinishReason.CANCELLED):
            self.fail(delta.error or EngineError("the engine cancelled the request"))
        elif self._error is None:
            self._deltas.append(delta)
            self._wake.set()
            self._backlog += num_bytes(delta)
            if self._backlog > _MAX_BACKLOG and not self._is_paused:
                self._is_paused = True
                self._set_paused(self, True)

    def fail(self, error: InfrsError) -> None:
        """End the stream with an error, after the deltas that it already has. The first error is kept."""
        self._error = self._error or error
        self._wake.set()


class Bridge:
    """Submits requests to the engine and carries their deltas to the event loop that created the bridge."""

    def __init__(self, engine: EngineService) -> None:
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._inbox: deque[tuple[DeltaStream, Delta]] = deque()
        self._wake_pending = False
        self._streams: dict[DeltaStream, list[asyncio.TimerHandle]] = {}  # with the timers of each

    def submit(self, requests: Sequence[Request], context: RequestContext) -> DeltaStream:
        """Start requests, all or none, with the tenant of the context.

        The stream fails with RequestTimeoutError at the context's deadline. Raises QueueFullError, DrainingError,
        EngineError.
        """
        stream = DeltaStream(requests, self._close, self._set_paused)
        started: list[str] = []
        try:
            for request in requests:
                owned = replace(request, tenant=context.tenant)
                self._engine.submit(owned, lambda delta: self._post(stream, delta))
                started.append(request.request_id)
        except InfrsError:
            for request_id in started:
                self._engine.cancel(request_id)
            raise
        self._streams[stream] = [self._loop.call_later(context.remaining, self._end, stream, context.timeout_error())]
        return stream

    def limit_wait(self, stream: DeltaStream, seconds: float) -> None:
        """Fail a stream with RequestTimeoutError if none of its requests has a slot after `seconds`."""
        late = RequestTimeoutError(f"no slot became free within the {seconds:g} s that this server lets a request wait")

        def give_up() -> None:
            if stream.open_ids and all(map(self._engine.is_waiting, stream.open_ids)):
                stream.fail(late)

        self._streams[stream].append(self._loop.call_later(seconds, give_up))

    def fail_all(self, error: InfrsError) -> None:
        """End every stream with an error."""
        for stream in self._streams:
            stream.fail(error)

    def _close(self, stream: DeltaStream) -> None:
        timers = self._streams.pop(stream, None)
        if timers is not None:
            for timer in timers:
                timer.cancel()
            for request_id in stream.open_ids:
                self._engine.cancel(request_id)

    def _end(self, stream: DeltaStream, error: InfrsError) -> None:
        """End a stream with an error. Its rows are free although the reader may not wait for the stream now."""
        stream.fail(error)
        for request_id in stream.open_ids:
            self._engine.cancel(request_id)

    def _set_paused(self, stream: DeltaStream, paused: bool) -> None:
        for request_id in stream.open_ids:
            self._engine.set_paused(request_id, paused)

    def _post(self, stream: DeltaStream, delta: Delta) -> None:
        """Queue a delta, on the engine thread. A closed loop has no readers left."""
        self._inbox.append((stream, delta))
        if not self._wake_pending:
            self._wake_pending = True
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._wake_pending = False  # before the inbox is read: a later delta must wake the loop again
        while self._inbox:
            stream, delta = self._inbox.popleft()
            stream.feed(delta)
