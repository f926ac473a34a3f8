"""Wait for a Hub that asks for it, within a limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx2  # huggingface_hub's own client
from huggingface_hub.utils._http import parse_ratelimit_headers

from infrs.errors import SourceError

LONGEST_WAIT = 300.0  # s, in total


class Patience:
    """The total time that a run waits for the Hub (RFC 9110, Retry-After). All threads of a run share it."""

    def __init__(self, note: Callable[[str], None]) -> None:
        """Start with no time spent. `note`: called with a message before each wait."""
        self._note = note
        self._lock = threading.Lock()
        self._spent = 0.0  # s; simultaneous waits of several threads count once
        self._until = 0.0

    def wait(self, host: str, response: httpx2.Response) -> bool:
        """Wait for the time in the answer. Return False immediately if it does not ask to wait.

        huggingface_hub would wait for any time, and several times. So a longer wait raises SourceError, which
        huggingface_hub does not catch.
        """
        status = response.status_code
        if status not in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS) and not response.is_server_error:
            return False
        busy = status == HTTPStatus.TOO_MANY_REQUESTS
        asks = f"{host} asks for fewer requests" if busy else f"{host} answers {status}"
        seconds = _seconds(response)
        if seconds is None:
            if busy:
                raise SourceError(f"{asks}; try again later")
            return False
        with self._lock:
            now = time.monotonic()
            more = max(0.0, now + seconds - max(now, self._until))
            if self._spent + more > LONGEST_WAIT:
                raise SourceError(f"{asks}; try again in {seconds:.0f} seconds")
            self._spent += more
            self._until = max(self._until, now + seconds)
        if more:
            self._note(f"{asks}; continuing in {seconds:.0f} s")
        time.sleep(seconds)
        return True


def _seconds(response: httpx2.Response) -> float | None:
    """Return the seconds to wait, at least one; None if the answer has no valid value."""
    limit = parse_ratelimit_headers(response.headers)
    if response.status_code == HTTPStatus.TOO_MANY_REQUESTS and limit is not None and limit.remaining == 0:
        return max(1.0, float(limit.reset_in_seconds))
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return max(1.0, float(value))
    try:
        return max(1.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
