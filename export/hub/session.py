"""The HTTP client for the Hub, with a minimum speed and without compression, so that no download hangs or expands."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import httpx2  # huggingface_hub's own client
from huggingface_hub.utils._http import hf_request_event_hook  # what huggingface_hub's own client has

from infrs.errors import SourceError

SLOWEST = 1024  # bytes/s, over WINDOW
WINDOW = 60.0  # s
CONNECT, READ = 10.0, 30.0  # s, for requests to which huggingface_hub gives no timeout
ANSWER = 60.0  # s, until the headers of an answer, with name lookup and connection
_TIMEOUT = {"connect": CONNECT, "read": READ, "write": READ, "pool": READ}
LONGEST_WAIT = 300.0  # s, in total, if the Hub asks for fewer requests


class Patience:
    """The total time that a run waits for the Hub (RFC 9110, Retry-After). All threads of a run share it."""

    def __init__(self, note: Callable[[str], None]) -> None:
        """Start with no time spent. `note`: called with a message before each wait."""
        self._note = note
        self._lock = threading.Lock()
        self._spent = 0.0  # s; simultaneous waits of several threads count once
        self._until = 0.0

    def wait(self, response: httpx2.Response) -> bool:
        """Wait for the time in the answer. Return False immediately if it has none or it is too long."""
        seconds = _retry_after(response)
        if seconds is None:
            return False
        with self._lock:
            now = time.monotonic()
            more = max(0.0, now + seconds - max(now, self._until))
            if self._spent + more > LONGEST_WAIT:
                return False
            self._spent += more
            self._until = max(self._until, now + seconds)
        if more:
            self._note(f"{_host(response)} asks for fewer requests; continuing in {seconds:.0f} s")
        time.sleep(seconds)
        return True


def client(patience: Patience) -> httpx2.Client:
    """Return a client for huggingface_hub. Its own timeouts only detect a Hub that sends nothing."""
    return _Client(
        patience,
        headers={"Accept-Encoding": "identity"},  # a compressed file can expand to any length
        event_hooks={"request": [hf_request_event_hook]},
        follow_redirects=True,
    )


def check_endpoint(endpoint: str) -> str:
    """Return the host of a Hub, with a port other than the default.

    Raises SourceError for a remote Hub without TLS, which would expose the token and allow changed weights.
    """
    url = urlsplit(endpoint)
    if url.scheme != "https" and url.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise SourceError(f"HF_ENDPOINT is {endpoint}; a Hub on another machine must be reached by https")
    return url.netloc.rpartition("@")[2]


class _Client(httpx2.Client):
    def __init__(self, patience: Patience, **options: Any) -> None:  # noqa: ANN401  # those of httpx2.Client
        super().__init__(**options)
        self._patience = patience

    def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:  # noqa: ANN401
        """Send a request within the limits of this module. Raises httpx2.TimeoutException, SourceError."""
        given = {key: value for key, value in request.extensions.get("timeout", {}).items() if value is not None}
        request.extensions["timeout"] = _TIMEOUT | given
        send = partial(_in_time, partial(super().send, request, stream=True, **options))
        response = send()
        while response.status_code == HTTPStatus.TOO_MANY_REQUESTS and self._patience.wait(response):
            response.close()
            response = send()
        if response.headers.get("Content-Encoding", "identity") != "identity":
            response.close()
            raise SourceError(
                f"{_host(response)} sends a compressed file, but no compression was requested; try again later"
            )
        if isinstance(response.stream, httpx2.SyncByteStream):
            response.stream = _Body(response.stream, _host(response))
        if not stream:
            response.read()
        return response


class _Body(httpx2.SyncByteStream):
    """The body of an answer with a minimum speed."""

    def __init__(self, stream: httpx2.SyncByteStream, host: str) -> None:
        self._stream = stream
        self._host = host

    def __iter__(self) -> Iterator[bytes]:
        """Yield pieces. Raises SourceError below SLOWEST bytes/s over a WINDOW."""
        since, received = time.monotonic(), 0
        for piece in self._stream:
            received += len(piece)
            elapsed = time.monotonic() - since
            if elapsed >= WINDOW:
                if received < SLOWEST * elapsed:
                    raise SourceError(
                        f"{self._host} sends too slowly ({received / elapsed:.0f} bytes/s); run the same command again "
                        "later to resume the download"
                    )
                since, received = time.monotonic(), 0
            yield piece

    def close(self) -> None:
        """Close the connection, or give it back."""
        self._stream.close()


def _in_time(send: Callable[[], httpx2.Response]) -> httpx2.Response:
    """Call `send`. Raises httpx2.TimeoutException after ANSWER s; a socket's timeout would restart with every byte."""
    answer: Future[httpx2.Response] = Future()

    def run() -> None:
        try:
            answer.set_result(send())
        except BaseException as error:
            answer.set_exception(error)

    thread = threading.Thread(target=run, name="infrs-hub", daemon=True)
    thread.start()
    thread.join(ANSWER)
    if not answer.done():
        raise httpx2.TimeoutException(f"no answer within {ANSWER:g} s")
    return answer.result()


def _retry_after(response: httpx2.Response) -> float | None:
    """Return the seconds to wait, at least one; None if the answer has no valid value."""
    value = response.headers.get("Retry-After", "")
    if value.isascii() and value.isdigit():
        return max(1.0, float(value))
    try:
        return max(1.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _host(response: httpx2.Response) -> str:
    return response.url.netloc.decode()
