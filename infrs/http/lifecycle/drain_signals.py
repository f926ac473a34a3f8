"""Signal handling: SIGINT and SIGTERM drain the server, SIGHUP rereads the API keys.

While a model loads, SIGINT and SIGTERM keep their default action and end the process. No request is lost then, and a
handler would have to wait for the GIL, which ONNX Runtime holds.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

_STOP = (signal.SIGINT, signal.SIGTERM)


def end_by_default() -> None:
    """Let SIGINT and SIGTERM end the process."""
    for number in _STOP:
        signal.signal(number, signal.SIG_DFL)


def on_stop(stop: Callable[[], None]) -> None:
    """Call `stop` on the event loop for SIGINT and SIGTERM."""
    for number in _STOP:
        asyncio.get_running_loop().add_signal_handler(number, stop)


def on_hangup(reread: Callable[[], None]) -> None:
    """Call `reread` on the event loop for each SIGHUP, including a pending one."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reread)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


def ignore_hangup() -> None:
    """Ignore SIGHUP, so that it does not end a process that drains."""
    asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
