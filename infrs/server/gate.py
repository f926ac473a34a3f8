"""What is refused as soon as a request's head is there, before any byte of its body is read.

Sanic reads the body before its middleware runs; the `http.lifecycle.request` signal comes first. An error raised
there is answered at once and the connection closed, without `100 Continue`.
"""

from __future__ import annotations

import re
from typing import Any

from sanic import Request, Sanic
from sanic.exceptions import BadRequest, PayloadTooLarge, SanicException

from infrs.server.state import ServerState

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z]+")  # a header name, RFC 9110 §5.6.2, as Sanic lower-cases it
_DIGITS = re.compile(r"[0-9]{1,18}")
GENERATION_PATHS = frozenset({"/v1/chat/completions"})


class StrictRequest(Request):
    """A request whose URL, where the head could not be parsed, cannot fail a second time while Sanic answers."""

    def __init__(self, url_bytes: bytes, headers: Any, version: str, method: str, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(b"*" if method == "NONE" else url_bytes, headers, version, method, *args, **kwargs)


def install(app: Sanic[Any, Any], state: ServerState) -> None:
    """Put the gate in front of an app."""

    @app.signal("http.lifecycle.request")
    async def _gate(request: Request) -> None:
        stream = request.transport.get_protocol().http  # type: ignore[attr-defined]  # Sanic's HttpProtocol
        stream.request, request.stream = request, stream  # else Sanic answers a refusal without its request
        check_head(request, state)


def check_head(request: Request, state: ServerState) -> None:
    """Raise the error that a head deserves, if any."""
    headers = request.headers
    if not all(_TOKEN.fullmatch(name) for name in headers):
        raise BadRequest
    length = headers.get("content-length")
    if length is not None:
        if not _DIGITS.fullmatch(length):
            raise BadRequest
        if int(length) > state.settings.server.max_body_bytes:
            raise PayloadTooLarge
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise _unsupported()
    if request.method == "POST":
        media, _, parameters = headers.get("content-type", "application/json").lower().partition(";")
        charset = parameters.replace(" ", "").replace('"', "")
        if media.strip() != "application/json" or charset not in ("", "charset=utf-8"):
            raise _unsupported()
        if request.path in GENERATION_PATHS:
            state.refuse_if_full()


def _unsupported() -> SanicException:
    return SanicException(status_code=415)
