"""Process 1 of a container: it runs the program as a child, passes signals on to it and reaps orphans.

The kernel drops a signal to process 1 that has no handler (pid_namespaces(7)), so the default action never ends it. A
handler in Python waits for the GIL, which ONNX Runtime holds for as long as it opens a model. A child of process 1 has
the default actions, so a signal ends it at any moment.
"""

from __future__ import annotations

import os
import signal

_PASSED = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2")


def leave_process_1() -> None:
    """Continue in a child if this is process 1. Call it before any thread starts."""
    if os.getpid() == 1:
        run_in_child()


def run_in_child() -> None:
    """Return in a child; the calling process stays behind and exits with the child's code, 128 + n for signal n."""
    waited = {signal.SIGCHLD, *(signal.Signals[name] for name in _PASSED)}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    child = os.fork()
    if not child:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return
    while True:
        received = signal.sigwaitinfo(waited)
        if received.si_signo == signal.SIGCHLD:
            _reap(child)
        elif received.si_code <= 0:  # positive: from a terminal, which has sent it to the child too
            os.kill(child, received.si_signo)


def _reap(child: int) -> None:
    """Collect every process that has ended, and exit if `child` is one of them."""
    while True:
        process, status = os.waitpid(-1, os.WNOHANG)
        if process == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)
        if not process:
            return
