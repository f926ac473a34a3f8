"""Limit the time that a server's models take to load.

ONNX Runtime cannot be interrupted while it opens a graph, and holds the interpreter lock. So a signal ends the process.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from infrs.errors import BundleError
from infrs.native.signals import end_by_signal

_begin: ContextVar[Callable[[str], None] | None] = ContextVar("_begin", default=None)


@contextmanager
def limit_time(seconds: float, model_id: str) -> Iterator[None]:
    """End the process with a message if the block takes longer than `seconds`.

    The message names the last step that the block, or a thread of its context, has begun. Without infrs's library,
    SIGALRM ends the process without a message.
    """

    def begin(step: str) -> None:
        message = (
            f"infrs-serve: {ascii(model_id)[1:-1]} was not loaded within server.load_timeout, {seconds:g} s; the step "
            f"that did not end was {step}; raise that, or export the model again"
        )
        end_by_signal(signal.SIGALRM, BundleError.exit_code, message)

    begin("to open its files")
    token = _begin.set(begin)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        _begin.reset(token)


def begin_step(step: str) -> None:
    """Name the step that a load begins; without a limit of its time, do nothing."""
    begin = _begin.get()
    if begin is not None:
        begin(step)
