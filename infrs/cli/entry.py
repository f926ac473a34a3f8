"""The entry point of `infrs-serve`. It settles what signals do before it imports anything that takes time."""

from __future__ import annotations

import signal
import sys

from infrs.cli.process_1 import leave_process_1


def serve() -> None:
    """Run `infrs-serve`.

    Until the server drains, SIGINT and SIGTERM end it by their default action, even while native code holds the GIL.
    SIGHUP stays pending until the server can reread its keys.
    """
    if sys.platform == "win32":
        sys.exit("infrs-serve: this version runs on Linux and macOS only; on Windows, run it in WSL 2")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    leave_process_1()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from infrs.cli.serve import serve as run  # noqa: PLC0415  # takes a second or more

    run()
