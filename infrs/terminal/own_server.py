"""Run `infrs-serve` for as long as a command needs it."""

from __future__ import annotations

import ctypes
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType

from infrs.errors import InfrsError

_READY = re.compile(r" at (http://\S+):")
_PATIENCE = 10.0  # seconds for the server to stop
_PR_SET_PDEATHSIG = 1  # prctl(2)


class ServerNotStartedError(InfrsError):
    """The server of a command ended before it was ready. Its own error stands above."""

    code = "server_not_started"


@contextmanager
def own_server(arguments: Sequence[str]) -> Iterator[str]:
    """Start `infrs-serve` on a free port and yield its URL. Stops it when the block ends, or on Linux this process.

    Its log, and the progress of an export, go to standard error. It has a session of its own, so that Ctrl-C stops an
    answer and not the server. Raises ServerNotStartedError.
    """
    command = [sys.executable, "-m", "infrs", *arguments, "--host", "127.0.0.1", "--port", "0"]
    quiet = ["--log-level", "warning", "--log-format", "text", "--no-access-log"]
    previous = {number: signal.signal(number, _leave) for number in (signal.SIGHUP, signal.SIGTERM)}
    with start_child([*command, *quiet]) as process:
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


def start_child(command: Sequence[str]) -> subprocess.Popen[str]:
    """Start a process that gets SIGTERM when this one ends, even by SIGKILL. Elsewhere than on Linux it does not."""
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=prctl and partial(prctl, _PR_SET_PDEATHSIG, signal.SIGTERM),  # noqa: PLW1509  # it takes no lock
    )


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
