"""The worker thread of an encoder: texts in, futures of vectors out. Uses no asyncio."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from infrs.errors import EngineError, InfrsError, QueueFullError
from infrs.models.encoders.encoder import Encoder, Vector
from infrs.worker import Worker

logger = logging.getLogger(__name__)

Text = TypeVar("Text")

# A failed run ends its own request. This many in a row mean that the runtime itself is broken.
_MAX_FAILURES = 3


@dataclass(frozen=True, slots=True)
class EncoderStats:
    """A snapshot. num_open: requests that run or wait. last_progress: seconds of the monotonic clock."""

    num_open: int
    last_progress: float


@dataclass(slots=True, eq=False)
class _Job(Generic[Text]):
    """The texts of one request and its vectors so far."""

    texts: Sequence[Text]
    future: Future[list[Vector]] = field(default_factory=Future)
    vectors: list[Vector] = field(default_factory=list)


class EncoderService(Worker, Generic[Text]):
    """Computes vectors in one thread, one text at a time. Open requests take turns.

    At most `max_queue` requests wait while one runs. Every method may be called from any thread.
    """

    def __init__(self, encoder: Encoder[Text], max_queue: int) -> None:
        super().__init__("infrs-encoder", failed="the model has failed; restart the server")
        self._encoder = encoder
        self._max_queue = max_queue
        self._jobs: deque[_Job[Text]] = deque()  # the next one first
        self._last_progress = time.monotonic()

    def submit(self, texts: Sequence[Text]) -> Future[list[Vector]]:
        """Queue texts, in the form of the encoder, and return a future of their vectors, in order.

        Cancel the future to end the request before its next text. Raises QueueFullError, DrainingError, or
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

    def snapshot(self) -> EncoderStats:
        """Return the current counts."""
        return EncoderStats(len(self._jobs), self._last_progress)

    def _work(self) -> None:
        failures = 0
        while failures < _MAX_FAILURES and (job := self._next()):
            try:
                job.vectors.append(self._encoder.encode(job.texts[len(job.vectors)]))
                failures = 0
            except InfrsError as error:  # an error of this text, not of the runtime
                self._end(job, error)
            except Exception as error:
                logger.exception("a text could not be computed")
                failures += 1
                self._end(job, EngineError(f"the text could not be computed ({type(error).__name__}); try again"))
            self._last_progress = time.monotonic()
            if len(job.vectors) == len(job.texts):
                self._end(job)
            self._let_others(job)

    def _close(self, error: InfrsError) -> None:
        self.fail_all(error)

    def _next(self) -> _Job[Text] | None:
        """Wait for the next request in turn and return it; None when the thread must stop."""
        with self._wake:
            self._drop_cancelled()
            while not (self._jobs or self._stopping):
                self._wake.wait()
                self._drop_cancelled()
            if self._stopping:
                return None
            return self._jobs[0]

    def _let_others(self, job: _Job[Text]) -> None:
        """Move a request behind the others after its turn."""
        with self._wake:
            if self._jobs and self._jobs[0] is job:
                self._jobs.rotate(-1)

    def _drop_cancelled(self) -> None:
        for job in [job for job in self._jobs if job.future.cancelled()]:
            self._jobs.remove(job)

    def _end(self, job: _Job[Text], error: InfrsError | None = None) -> None:
        """Complete a request, once, unless it was cancelled."""
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
