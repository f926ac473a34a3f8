"""What signals do: SIGINT and SIGTERM end the process or drain the server, SIGHUP rereads the API keys.

While a model loads there is no request to finish, and ONNX Runtime holds the GIL, for which a handler would wait. So
SIGINT and SIGTERM keep their default action until the model is loaded.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from unittest.mock import patch

from sanic.server import runners

_STOP = (signal.SIGINT, signal.SIGTERM)


def unhandled_by_sanic() -> AbstractContextManager[object]:
    """Keep Sanic from handling SIGINT and SIGTERM. It first ignores them, and a signal in that moment would be lost."""
    return patch.object(runners, "_setup_system_signals", lambda *arguments: None)


def end_by_default() -> None:
    """Let SIGINT and SIGTERM end the process."""
    for number in _STOP:
        signal.signal(number, signal.SIG_DFL)


def on_stop(stop: Callable[[], None]) -> None:
    """Call `stop` on the event loop for SIGINT and SIGTERM."""
    for number in _STOP:
        asyncio.get_running_loop().add_signal_handler(number, stop)


def on_hangup(reread: Callable[[], None]) -> None:
    """Call `reread` on the event loop for each SIGHUP, also for one that is pending."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reread)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


def ignore_hangup() -> None:
    """Keep SIGHUP from ending a process that stops."""
    asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
