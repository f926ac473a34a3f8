"""The HTTP client for the Hub: no request hangs, no answer expands, and only the Hub sees the token."""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from functools import partial
from http import HTTPStatus
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2  # huggingface_hub's own client
from huggingface_hub import constants
from huggingface_hub.utils._http import hf_request_event_hook  # what huggingface_hub's own client has

from infrs.errors import SourceError, without_password

from ..replaced import replaced
from .patience import Patience

SLOWEST = 1024  # bytes/s, over WINDOW
WINDOW = 60.0  # s
CONNECT, READ = 10.0, 30.0  # s, for requests to which huggingface_hub gives no timeout
ANSWER = 60.0  # s, until the headers of an answer, with name lookup and connection
MEMORY_BYTES = 64 << 20  # of an answer that is not a file, and so is kept in memory
FILE = {"infrs_file": True}  # the extension of requests for files
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@contextmanager
def without_extras() -> Iterator[None]:
    """Switch off what huggingface_hub does beyond the requests of this module.

    The library of Xet knows none of the limits; without it, the files that models share through Xet are not used.
    Telemetry is the name of the coding agent that runs this, and one more request for a list of such names.
    Warnings show whole URLs, which can have a password.
    """
    log = logging.getLogger("huggingface_hub")
    with ExitStack() as stack:
        stack.callback(log.setLevel, log.level)
        log.setLevel(logging.ERROR)
        for extra in ("XET", "SHARED_BLOBS", "TELEMETRY"):
            stack.enter_context(replaced(constants, f"HF_HUB_DISABLE_{extra}", True))
        yield


class Client(httpx2.Client):
    """A client that stays open: huggingface_hub closes it after a failed connection, but other threads still read."""

    def close(self) -> None:
        """Do nothing; connections close with the process."""


def client(patience: Patience) -> Client:
    """Return a client for huggingface_hub. Its own timeouts only detect a Hub that sends nothing."""
    return Client(
        transport=_Transport(patience),
        headers={"Accept-Encoding": "identity"},  # a compressed file can expand to any length
        event_hooks={"request": [hf_request_event_hook]},
        follow_redirects=True,
    )


def check_endpoint(endpoint: str) -> str:
    """Return the host of a Hub, with a port other than the default.

    Raises SourceError for a remote Hub without TLS, which would expose the token and allow changed weights.
    """
    url = urlsplit(endpoint)
    if url.scheme != "https" and url.hostname not in _LOOPBACK:
        raise SourceError(
            f"HF_ENDPOINT is {without_password(endpoint)}; a Hub on another machine must be reached by https"
        )
    return url.netloc.rpartition("@")[2]


class _Transport(httpx2.BaseTransport):
    """Send each request, and each request after a redirect, within the limits of this module."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._hub = httpx2.URL(constants.ENDPOINT).origin
        trusted = _certificates()
        self._direct = httpx2.HTTPTransport(trusted)
        # httpx2 reads the environment's proxies only for transports of its own.
        proxies = {kind: url for kind, url in getproxies().items() if kind in ("http", "https", "all")}
        self._proxied = {kind: _proxied(url, trusted) for kind, url in proxies.items()}

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request. Raises httpx2.TransportError, SourceError."""
        url, host = request.url, request.url.netloc.decode()
        if url.scheme != "https" and url.host not in _LOOPBACK:
            hub = without_password(constants.ENDPOINT)
            raise SourceError(f"{hub} redirects to {url.scheme}://{host}, which is not https")
        if url.origin != self._hub:
            request.headers.pop("Authorization", None)  # huggingface_hub sends it to a few more hosts
        given = {key: value for key, value in request.extensions.get("timeout", {}).items() if value is not None}
        request.extensions["timeout"] = {"connect": CONNECT, "read": READ, "write": READ, "pool": READ} | given
        send = partial(_in_time, partial(self._way_to(url).handle_request, request))
        response = send()
        while self._waited(host, response):
            response.close()
            response = send()
        if response.headers.get("Content-Encoding", "identity") != "identity":
            response.close()
            raise SourceError(f"{host} sends a compressed file, but no compression was requested; try again later")
        is_file = "infrs_file" in request.extensions and response.status_code in (
            HTTPStatus.OK,
            HTTPStatus.PARTIAL_CONTENT,
        )
        if isinstance(response.stream, httpx2.SyncByteStream):
            response.stream = _Body(response.stream, host, None if is_file else MEMORY_BYTES)
        return response

    def _waited(self, host: str, response: httpx2.Response) -> bool:
        try:
            return self._patience.wait(host, response)
        except SourceError:
            response.close()
            raise

    def _way_to(self, url: httpx2.URL) -> httpx2.BaseTransport:
        if not self._proxied or proxy_bypass(url.host):
            return self._direct
        return self._proxied.get(url.scheme) or self._proxied.get("all") or self._direct


def _certificates() -> ssl.SSLContext:
    """Return the certificates to trust. Raises SourceError."""
    try:
        return httpx2.create_ssl_context()
    except OSError as error:
        raise SourceError(
            f"SSL_CERT_FILE or SSL_CERT_DIR cannot be read ({error.strerror}); correct or unset them"
        ) from error


def _proxied(proxy: str, trusted: ssl.SSLContext) -> httpx2.BaseTransport:
    """Return the transport through a proxy of the environment. Raises SourceError for a proxy that is no HTTP proxy."""
    try:
        return httpx2.HTTPTransport(trusted, proxy=proxy if "://" in proxy else f"http://{proxy}")
    except (ImportError, ValueError, httpx2.InvalidURL) as error:  # ImportError: a SOCKS proxy
        host = proxy.rpartition("@")[2]
        raise SourceError(f"the proxy {host} cannot be used; set HTTPS_PROXY to the URL of an HTTP proxy") from error


class _Body(httpx2.SyncByteStream):
    """The body of an answer with a minimum speed. limit: maximum bytes; None for no maximum."""

    def __init__(self, stream: httpx2.SyncByteStream, host: str, limit: int | None) -> None:
        self._stream, self._host, self._limit = stream, host, limit

    def __iter__(self) -> Iterator[bytes]:
        """Yield pieces. Raises SourceError below SLOWEST bytes/s over a WINDOW, or above the limit."""
        since, received, total = time.monotonic(), 0, 0
        for piece in self._stream:
            received += len(piece)
            total += len(piece)
            if self._limit is not None and total > self._limit:
                raise SourceError(f"{self._host} sends an answer longer than {self._limit} bytes; check HF_ENDPOINT")
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
    """Call `send`. Raises httpx2.ReadTimeout after ANSWER s; a socket's timeout would restart with every byte."""
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
        answer.add_done_callback(_give_back)
        raise httpx2.ReadTimeout(f"no answer within {ANSWER:g} s")
    return answer.result()


def _give_back(late: Future[httpx2.Response]) -> None:
    """Close an answer for which no thread waits any more, and with it its connection."""
    if late.exception() is None:
        late.result().close()
