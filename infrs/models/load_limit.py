"""Limit the time that a server's models take to load.

A library in C++ or Rust cannot be interrupted, and may hold the interpreter lock. So a signal ends the process.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

from infrs.errors import BundleError
from infrs.native.signals import end_by_signal

_begin: ContextVar[Callable[[str], None] | None] = ContextVar("_begin", default=None)


_GRACE_SECONDS = 60.0


def limit_on_demand(seconds: float | None, model_id: str) -> AbstractContextManager[None]:
    """End the process if the block, a load of a server that is ready, takes a minute longer than `seconds`.

    The event loop ends the block before that, unless a library keeps the interpreter lock.
    """
    return nullcontext() if seconds is None else limit_time(seconds, model_id, _GRACE_SECONDS)


@contextmanager
def limit_time(seconds: float, model_id: str, grace: float = 0.0) -> Iterator[None]:
    """End the process with a message if the block takes longer than `seconds`, and `grace` seconds more.

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
    signal.setitimer(signal.ITIMER_REAL, seconds + grace)
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
