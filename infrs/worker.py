"""The base class of worker threads."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod

from infrs.errors import DrainingError, EngineError, InfrsError


class Worker(ABC):
    """One thread, started and stopped once. Subclasses define its work.

    `_wake` guards the shared state. Notify it when there is work, or when the thread must stop.
    """

    def __init__(self, name: str, failed: str) -> None:
        """`failed`: the error message of requests after a permanent failure."""
        self._failed = failed
        self._wake = threading.Condition()
        self._stopping = False
        self._ended = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def alive(self) -> bool:
        """Return whether the thread runs and takes requests."""
        return self._thread.is_alive() and not self._ended

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Stop after the current unit of work, fail the open requests, and wait `timeout` seconds for the thread."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    @abstractmethod
    def _work(self) -> None:
        """Work until `_stopping` or a permanent failure."""

    @abstractmethod
    def _close(self, error: InfrsError) -> None:
        """Fail the remaining requests. No new ones arrive."""

    def _check_open(self) -> None:
        """Raise DrainingError or EngineError if the thread takes no more requests. Call it under `_wake`."""
        if self._stopping:
            raise DrainingError("the server is shutting down; send the request to another one")
        if self._ended:
            raise EngineError(self._failed)

    def _run(self) -> None:
        self._work()
        with self._wake:
            self._ended = True
        self._close(DrainingError("the server stopped before the answer was complete"))
