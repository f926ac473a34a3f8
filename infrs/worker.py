"""A thread that works on what others give it until it is stopped: what the services have in common."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod

from infrs.errors import DrainingError, EngineError, InfrsError


class Worker(ABC):
    """One thread, started and stopped once. Its kinds say what it does.

    `_wake` guards what the thread shares with others and tells it that there is something to do, or that it is to stop.
    """

    def __init__(self, name: str, failed: str) -> None:
        """`failed`: what those are told who come after it has failed for good."""
        self._failed = failed
        self._wake = threading.Condition()
        self._stopping = False
        self._ended = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the thread runs and takes requests."""
        return self._thread.is_alive() and not self._ended

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Stop after what is being run, end what is left with an error, and wait `timeout` seconds for the thread."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    @abstractmethod
    def _work(self) -> None:
        """Work until `_stopping`, or until it fails for good."""

    @abstractmethod
    def _close(self, error: InfrsError) -> None:
        """End what is left with an error, now that nothing more comes in."""

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
