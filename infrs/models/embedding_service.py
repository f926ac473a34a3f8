"""The thread that makes vectors: texts in, futures out. Knows no asyncio and no wire."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from infrs.errors import EngineError, InfrsError, QueueFullError
from infrs.models.encoder import Encoder, Vector
from infrs.worker import Worker

logger = logging.getLogger(__name__)

# A run that fails ends its own request; so many in a row mean that the runtime itself is broken.
_MAX_FAILURES = 3


@dataclass(frozen=True, slots=True)
class EmbeddingStats:
    """A moment of the service. num_open: requests that run or wait. last_progress: seconds of the monotonic clock."""

    num_open: int
    last_progress: float


@dataclass(slots=True, eq=False)
class _Job:
    """The texts of one request, and the vectors that it has so far."""

    texts: Sequence[Sequence[int]]
    future: Future[list[Vector]] = field(default_factory=Future)
    vectors: list[Vector] = field(default_factory=list)


class EmbeddingService(Worker):
    """Makes vectors in one thread, a text at a time, the open requests taking turns: none waits for another's end.

    At most `max_queue` requests are open beside one. Every method may be called from any thread.
    """

    def __init__(self, encoder: Encoder, max_queue: int) -> None:
        super().__init__("infrs-embedding", failed="embeddings have failed; restart the server")
        self._encoder = encoder
        self._max_queue = max_queue
        self._jobs: deque[_Job] = deque()  # the next one first
        self._last_progress = time.monotonic()

    def submit(self, texts: Sequence[Sequence[int]]) -> Future[list[Vector]]:
        """Queue the token ids of one text or more; the future has their vectors, in order.

        To cancel the future ends the request before its next text. Raises QueueFullError, DrainingError, or
        EngineError if the thread has failed.
        """
        job = _Job(texts)
        with self._wake:
            self._check_open()
            self._drop_cancelled()
            if len(self._jobs) > self._max_queue:
                raise QueueFullError(f"{self._max_queue} requests are waiting already; try again in a moment")
            self._jobs.append(job)
            self._wake.notify()
        return job.future

    def fail_all(self, error: InfrsError) -> None:
        """End every open request with an error."""
        with self._wake:
            jobs = list(self._jobs)
        for job in jobs:
            self._end(job, error)

    def snapshot(self) -> EmbeddingStats:
        """The counts as of now."""
        return EmbeddingStats(len(self._jobs), self._last_progress)

    def _work(self) -> None:
        failures = 0
        while failures < _MAX_FAILURES and (job := self._next()):
            try:
                job.vectors.append(self._encoder.encode(job.texts[len(job.vectors)]))
                failures = 0
            except InfrsError as error:  # of this text, which says nothing of the runtime
                self._end(job, error)
            except Exception as error:
                logger.exception("a text could not be embedded")
                failures += 1
                self._end(job, EngineError(f"the text could not be embedded ({type(error).__name__}); try again"))
            self._last_progress = time.monotonic()
            if len(job.vectors) == len(job.texts):
                self._end(job)
            self._let_others(job)

    def _close(self, error: InfrsError) -> None:
        self.fail_all(error)

    def _next(self) -> _Job | None:
        """Wait for the request whose turn it is; None when the thread is to end."""
        with self._wake:
            self._drop_cancelled()
            while not (self._jobs or self._stopping):
                self._wake.wait()
                self._drop_cancelled()
            if self._stopping:
                return None
            return self._jobs[0]

    def _let_others(self, job: _Job) -> None:
        """Put a request that has had its turn behind those that have come meanwhile."""
        with self._wake:
            if self._jobs and self._jobs[0] is job:
                self._jobs.rotate(-1)

    def _drop_cancelled(self) -> None:
        for job in [job for job in self._jobs if job.future.cancelled()]:
            self._jobs.remove(job)

    def _end(self, job: _Job, error: InfrsError | None = None) -> None:
        """Answer a request, once, unless nobody waits for it any more."""
        with self._wake:
            if job not in self._jobs:
                return
            self._jobs.remove(job)
        if not job.future.set_running_or_notify_cancel():
            return
        if error is None:
            job.future.set_result(job.vectors)
        else:
            job.future.set_exception(error)
