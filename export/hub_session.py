"""How the Hub is spoken to: what it sends is taken as it is and at a least speed, so that nothing hangs or swells."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from urllib.parse import urlsplit

import requests
from huggingface_hub.utils._http import UniqueRequestIdAdapter  # what huggingface_hub itself mounts
from urllib3.response import BaseHTTPResponse

from infrs.errors import SourceError

SLOWEST = 1024  # bytes/s, over WINDOW
WINDOW = 60.0  # s
_PIECE = 1 << 20


def session() -> requests.Session:
    """A session for huggingface_hub, whose own timeouts are only for a Hub that sends nothing at all."""
    made = requests.Session()
    made.headers["Accept-Encoding"] = "identity"  # a file that is packed has another length, and may have any
    for scheme in ("http://", "https://"):
        made.mount(scheme, _Adapter())
    return made


def check_endpoint(endpoint: str) -> None:
    """Raises SourceError for a Hub elsewhere without TLS: a token would be read on the way, and weights exchanged."""
    url = urlsplit(endpoint)
    if url.scheme != "https" and url.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise SourceError(f"HF_ENDPOINT is {endpoint}; a Hub on another machine must be reached by https")


class _Adapter(UniqueRequestIdAdapter):
    def send(self, request: requests.PreparedRequest, *args: object, **kwargs: object) -> requests.Response:
        """As the one below; the answer is read under the bounds of this module."""
        send: Callable[..., requests.Response] = super().send
        response = send(request, *args, **kwargs)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            response.close()
            raise SourceError(f"{_host(response)} sends compressed what was asked for as it is; try again later")
        response.raw.stream = partial(_pieces, response.raw, _host(response))
        return response


def _pieces(
    raw: BaseHTTPResponse, host: str, _: int | None = None, *, decode_content: bool | None = None
) -> Iterator[bytes]:
    """The body as it arrives. Raises SourceError if less than SLOWEST bytes/s of it do, over a WINDOW."""
    since, received = time.monotonic(), 0
    while piece := raw.read1(_PIECE, decode_content=decode_content):
        received += len(piece)
        elapsed = time.monotonic() - since
        if elapsed >= WINDOW:
            if received < SLOWEST * elapsed:
                raise SourceError(
                    f"{host} sends too slowly ({received / elapsed:.0f} bytes/s); run the same command again later, "
                    "it goes on where it stopped"
                )
            since, received = time.monotonic(), 0
        yield piece


def _host(response: requests.Response) -> str:
    return urlsplit(response.url).netloc
