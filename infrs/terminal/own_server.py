"""Run `infrs-serve` for as long as a command needs it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from infrs.errors import InfrsError

_READY = re.compile(r" at (http://\S+):")
_PATIENCE = 10.0  # seconds for the server to stop


class ServerNotStartedError(InfrsError):
    """The server of a command ended before it was ready. Its own error stands above."""

    code = "server_not_started"


@contextmanager
def own_server(arguments: Sequence[str]) -> Iterator[str]:
    """Start `infrs-serve` on a free port and yield its URL. Stops it when the block ends.

    Its log, and the progress of an export, go to standard error. It has a session of its own, so that Ctrl-C stops an
    answer and not the server. Raises ServerNotStartedError.
    """
    command = [sys.executable, "-m", "infrs", *arguments, "--host", "127.0.0.1", "--port", "0"]
    quiet = ["--log-level", "warning", "--log-format", "text", "--no-access-log"]
    previous = {number: signal.signal(number, _leave) for number in (signal.SIGHUP, signal.SIGTERM)}
    with subprocess.Popen([*command, *quiet], stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            found = _READY.search(process.stdout.readline() if process.stdout else "")
            if found is None:
                raise ServerNotStartedError("the server did not start")
            yield found[1]
        finally:
            process.terminate()
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
            for number, handler in previous.items():
                signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
