"""What signals do: SIGINT and SIGTERM drain the server or end the process, SIGHUP rereads the API keys."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_STOP = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_by_default_action(stop: Callable[[], None]) -> Iterator[None]:
    """Let SIGINT and SIGTERM end the process; afterwards they call `stop` on the event loop.

    While a model loads there is no request to finish, and ONNX Runtime holds the GIL: a handler would wait for it.
    """
    loop = asyncio.get_running_loop()
    for number in _STOP:
        loop.remove_signal_handler(number)
    stop_for_good()
    try:
        yield
    finally:
        for number in _STOP:
            loop.add_signal_handler(number, stop)


def stop_for_good() -> None:
    """Let SIGINT and SIGTERM end the process."""
    for number in _STOP:
        signal.signal(number, signal.SIG_DFL)


def on_hangup(reread: Callable[[], None]) -> None:
    """Call `reread` on the event loop for each SIGHUP, also for one that came before."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reread)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


def ignore_hangup() -> None:
    """Keep SIGHUP from ending a process that stops."""
    asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
