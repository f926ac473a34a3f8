"""HTTP sessions for the Hub, with a minimum speed and without compression, so that no download hangs or expands."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from urllib.parse import urlsplit

import requests
from huggingface_hub.utils._http import UniqueRequestIdAdapter  # what huggingface_hub itself mounts
from urllib3.response import BaseHTTPResponse

from infrs.errors import SourceError

SLOWEST = 1024  # bytes/s, over WINDOW
WINDOW = 60.0  # s
CONNECT, READ = 10.0, 30.0  # s, for requests to which huggingface_hub gives no timeout
ANSWER = 60.0  # s, until the headers of an answer, with name lookup and connection
LONGEST_WAIT = 300.0  # s, in total, if the Hub asks for fewer requests
_PIECE = 1 << 20


class Patience:
    """The total time that a run waits for the Hub (RFC 9110, Retry-After). All threads of a run share it."""

    def __init__(self, note: Callable[[str], None]) -> None:
        """Start with no time spent. `note`: called with a message before each wait."""
        self._note = note
        self._lock = threading.Lock()
        self._spent = 0.0  # s; simultaneous waits of several threads count once
        self._until = 0.0

    def wait(self, response: requests.Response) -> bool:
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


def session(patience: Patience) -> requests.Session:
    """Return a session for huggingface_hub. Its own timeouts only detect a Hub that sends nothing."""
    made = requests.Session()
    made.headers["Accept-Encoding"] = "identity"  # a compressed file can expand to any length
    for scheme in ("http://", "https://"):
        made.mount(scheme, _Adapter(patience))
    return made


def check_endpoint(endpoint: str) -> str:
    """Return the host of a Hub, with a port other than the default.

    Raises SourceError for a remote Hub without TLS, which would expose the token and allow changed weights.
    """
    url = urlsplit(endpoint)
    if url.scheme != "https" and url.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise SourceError(f"HF_ENDPOINT is {endpoint}; a Hub on another machine must be reached by https")
    return url.netloc.rpartition("@")[2]


class _Adapter(UniqueRequestIdAdapter):
    def __init__(self, patience: Patience) -> None:
        super().__init__()
        self._patience = patience

    def send(self, request: requests.PreparedRequest, *args: object, **kwargs: object) -> requests.Response:
        """Send a request within the limits of this module. Raises requests.Timeout, SourceError."""
        kwargs["timeout"] = kwargs.get("timeout") or (CONNECT, READ)
        send = partial(_in_time, partial(super().send, request, *args, **kwargs))
        response = send()
        while response.status_code == HTTPStatus.TOO_MANY_REQUESTS and self._patience.wait(response):
            response.close()
            response = send()
        if response.headers.get("Content-Encoding", "identity") != "identity":
            response.close()
            raise SourceError(
                f"{_host(response)} sends a compressed file, but no compression was requested; try again later"
            )
        response.raw.stream = partial(_pieces, response.raw, _host(response))
        return response


def _in_time(send: Callable[[], requests.Response]) -> requests.Response:
    """Call `send`. Raises requests.Timeout after ANSWER s; a socket's timeout would restart with every byte."""
    answer: Future[requests.Response] = Future()

    def run() -> None:
        try:
            answer.set_result(send())
        except BaseException as error:
            answer.set_exception(error)

    thread = threading.Thread(target=run, name="infrs-hub", daemon=True)
    thread.start()
    thread.join(ANSWER)
    if not answer.done():
        raise requests.Timeout(f"no answer within {ANSWER:g} s")
    return answer.result()


def _pieces(
    raw: BaseHTTPResponse, host: str, _: int | None = None, *, decode_content: bool | None = None
) -> Iterator[bytes]:
    """Yield pieces of the body. Raises SourceError below SLOWEST bytes/s over a WINDOW."""
    since, received = time.monotonic(), 0
    while piece := raw.read1(_PIECE, decode_content=decode_content):
        received += len(piece)
        elapsed = time.monotonic() - since
        if elapsed >= WINDOW:
            if received < SLOWEST * elapsed:
                raise SourceError(
                    f"{host} sends too slowly ({received / elapsed:.0f} bytes/s); run the same command again later "
                    "to resume the download"
                )
            since, received = time.monotonic(), 0
        yield piece


def _retry_after(response: requests.Response) -> float | None:
    """Return the seconds to wait, at least one; None if the answer has no valid value."""
    value = response.headers.get("Retry-After", "")
    if value.isascii() and value.isdigit():
        return max(1.0, float(value))
    try:
        return max(1.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _host(response: requests.Response) -> str:
    return urlsplit(response.url).netloc
