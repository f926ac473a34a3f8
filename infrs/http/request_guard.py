"""Check a request's head before its body is read, and make the request's context.

Sanic reads the body before its middleware runs, but sends the `http.lifecycle.request` signal earlier. An error raised
in its handler is answered immediately, without `100 Continue`, and closes the connection.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from sanic import Request, Sanic
from sanic.compat import Header
from sanic.exceptions import BadRequest, NotFound, PayloadTooLarge, SanicException
from sanic_routing.route import Route

from infrs.api.anthropic import errors as anthropic_errors
from infrs.api.common.errors import (
    TOO_MANY_CONNECTIONS,
    AuthenticationError,
    HostNotAllowedError,
    TooManyConnectionsError,
)
from infrs.api.ollama import errors as ollama_errors
from infrs.batches.files import too_large
from infrs.core import RequestContext
from infrs.errors import RequestError
from infrs.http import cors
from infrs.http.auth import Keys, is_loopback
from infrs.http.connection.protocol import BoundedHttp
from infrs.http.observability.access_log import request_id
from infrs.http.state import ServerState
from infrs.models.encoders.served import ServedClassifier, ServedEmbeddingModel
from infrs.models.served import ServedChatModel, ServedModel

# RFC 9112, sections 3 and 5: a method, a target and the version; then names and values. Versions are Sanic's to check.
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_HEAD = re.compile(_TOKEN + rb" [\x21-\x7e]+ \S+(?:\r\n" + _TOKEN + rb":[\t\x20-\x7e\x80-\xff]*)*")
_SINGLE = ("host", "content-type", "content-encoding")  # Sanic refuses a second length or transfer coding
_DIGITS = re.compile(r"[0-9]{1,18}")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]*)(?::[0-9]{0,5})?")
CONTAINER_HOSTS = frozenset({"host.docker.internal", "host.containers.internal"})  # this machine, in its containers
GENERATION_PATHS = frozenset(
    {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/messages",
        "/v1/responses",
        "/v1/responses/compact",
        "/api/chat",
        "/api/generate",
    }
)
UPLOAD_PATH = "/v1/files"
MAX_FORM_BYTES = 64 << 10  # of an upload, next to its file
EMBEDDING_PATHS = frozenset({"/v1/embeddings", "/api/embed", "/api/embeddings"})
RERANK_PATHS = ("/v1/rerank", "/v2/rerank", "/rerank")  # Cohere's and Jina's; vLLM has them all
SCORE_PATHS = ("/v1/score", "/score")
# The kind of model that requests for a path wait for.
_KINDS: dict[str, type[ServedModel]] = {
    **dict.fromkeys(GENERATION_PATHS, ServedChatModel),
    **dict.fromkeys(EMBEDDING_PATHS, ServedEmbeddingModel),
    **dict.fromkeys((*RERANK_PATHS, *SCORE_PATHS, "/classify"), ServedClassifier),
}
CURLS_MEDIA_TYPE = "application/x-www-form-urlencoded"  # curl's for any body; Ollama's examples leave it
OPEN_ROUTES = frozenset({"health", "ready"})  # for an orchestrator, which has no key
PAGE_ROUTE, PAGE_FILES_ROUTE = "", "web/<name:path>"
# Files that anyone may read. The page asks its user for a key and sends it with each call of the API.
PUBLIC_ROUTES = OPEN_ROUTES | {PAGE_ROUTE, PAGE_FILES_ROUTE}


class StrictRequest(Request):
    """A request with the header values of RFC 9112, and a safe URL after an invalid head.

    Sanic strips all that Unicode counts as white space before a value, and nothing behind it. HTTP allows space and tab
    on both sides. Without a safe URL, Sanic would fail a second time while it answers.
    """

    def __init__(self, url_bytes: bytes, headers: Header, version: str, method: str, **rest: Any) -> None:  # noqa: ANN401
        if head := rest.get("head"):
            headers = Header(_fields(head))
        if version == "1.0":
            headers.pop("expect", None)  # RFC 9110, section 10.1.1
        super().__init__(b"*" if method == "NONE" else url_bytes, headers, version, method, **rest)


def _fields(head: bytes) -> Iterator[tuple[str, str]]:
    """Yield the names, in small letters, and the values of a head's fields."""
    for line in head.decode(errors="surrogateescape").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        yield name.lower(), value.strip(" \t")


def install(app: Sanic[Any, Any], state: ServerState, keys: Keys) -> None:
    """Check the head of each request before its body is read."""
    hosts = allowed_hosts(state)
    origins = cors.origins(state.settings.server)

    @app.signal("http.lifecycle.request")
    async def _guard(request: Request) -> None:
        stream = request.transport.get_protocol().http  # type: ignore[attr-defined]  # Sanic's HttpProtocol
        stream.request, request.stream = request, stream  # else Sanic answers an error without its request
        check_form(request)
        check_host(request, hosts)
        if not _is_open(request) and not _is_visit(request):
            cors.check_origin(request, origins)
        tenant, timeout = tenant_of(request, keys), state.settings.server.request_timeout
        if not request.path.startswith("/"):  # `*` names the server (RFC 9112, section 3.2.4); Sanic takes it for /
            raise NotFound
        if stream.protocol.place.reserved and not tenant and not _is_open(request):
            raise TooManyConnectionsError(TOO_MANY_CONNECTIONS)
        request.ctx.context = RequestContext.start(request_id(request), tenant, timeout)
        request.ctx.tenant = partial(tenant_of, request, keys)  # for later requests on a WebSocket
        check_body(request, state, tenant)


def check_form(request: Request) -> None:
    """Raise BadRequest unless the head is well-formed: its syntax, its hosts, and how it frames the body."""
    headers = request.headers
    if not _HEAD.fullmatch(request.head) or any(len(headers.getall(name, [])) > 1 for name in _SINGLE):
        raise BadRequest
    host, is_old = headers.get("host"), request.version == "1.0"
    if (host is None and not is_old) or (host is not None and not _HOST.fullmatch(host)):
        raise BadRequest
    if is_old and "transfer-encoding" in headers:  # RFC 9112, section 6.1
        raise BadRequest
    length = headers.get("content-length")
    if length is not None and not _DIGITS.fullmatch(length):
        raise BadRequest


def allowed_hosts(state: ServerState) -> frozenset[str] | None:
    """Return the host names that clients may use; None for any."""
    settings = state.settings.server
    named = {name.strip().lower() for name in settings.allowed_hosts.split(",") if name.strip()}
    if is_loopback(settings.host):
        named |= {"localhost", settings.host.lower(), *CONTAINER_HOSTS}
    return frozenset(named) or None


def check_host(request: Request, allowed: frozenset[str] | None) -> None:
    """Raise HostNotAllowedError for a host name that is not the server's.

    This prevents DNS rebinding: a web page could point its own name at this machine and call the server from its
    visitor's browser. An IP address is safe: a page from that address is the server's own.
    """
    name = request.headers.get("host", "").lower()
    match = _HOST.fullmatch(name)
    host = match[1].strip("[]") if match else name
    if allowed is None or not host or host in allowed or _is_address(host):
        return
    raise HostNotAllowedError("this server does not have this name; add it to server.allowed_hosts", param="host")


def tenant_of(request: Request, keys: Keys) -> str:
    """Return the tenant of a request. Raises AuthenticationError if the route needs a valid key and there is none."""
    given = request.headers.getall("authorization", [])
    if request.path in anthropic_errors.PATHS and "x-api-key" in request.headers:  # takes precedence there
        given = [f"Bearer {key}" for key in request.headers.getall("x-api-key")]
    try:
        return keys.tenant(given)
    except AuthenticationError:
        route = _route_of(request)
        if route is not None and (route.path in PUBLIC_ROUTES or cors.is_preflight(request, route)):
            return ""
        raise


def _route_of(request: Request) -> Route | None:
    """Return the route of a request. The router decides, so that every spelling of a path has one result."""
    if not request.path.startswith("/"):
        return None
    try:
        route: Route = request.app.router.get(request.path, request.method, request.headers.getone("host", None))[0]
    except SanicException:
        return None
    return route


def _is_open(request: Request) -> bool:
    """Return whether a route serves any client: without a key, from any origin, on a reserved connection."""
    route = _route_of(request)
    return route is not None and (route.path in OPEN_ROUTES or cors.is_preflight(request, route))


def _is_visit(request: Request) -> bool:
    """Return whether a person opens the page, perhaps by a link on another site, which learns nothing of the answer.

    No page can set these headers (Fetch Metadata). A frame has another destination.
    """
    headers, route = request.headers, _route_of(request)
    is_navigation = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return is_navigation and "origin" not in headers and route is not None and route.path == PAGE_ROUTE


def check_body(request: Request, state: ServerState, tenant: str) -> None:
    """Raise an error for a body that is too large or of the wrong type, and for a model without room in its queue."""
    headers, length = request.headers, int(request.headers.get("content-length", 0))
    if request.method == "POST" and request.path == UPLOAD_PATH:
        check_upload(request, state, length)
        return
    if length > state.settings.server.max_body_bytes:
        raise PayloadTooLarge
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise _unsupported(request)
    if request.method == "POST":
        media, _, parameters = headers.get("content-type", "application/json").lower().partition(";")
        charset = parameters.replace(" ", "").replace('"', "")
        allowed = ("application/json", *[CURLS_MEDIA_TYPE] * request.path.startswith(ollama_errors.PREFIX))
        if media.strip() not in allowed or charset not in ("", "charset=utf-8"):
            raise _unsupported(request)
        kind = _KINDS.get(request.path)
        if kind is not None:
            state.require_models().refuse_if_full(kind, tenant)


def check_upload(request: Request, state: ServerState, length: int) -> None:
    """Raise an error for an upload that is too large or no form, and give its body the time of a request."""
    settings = state.settings.server
    state.require_batches()
    if length > (settings.max_file_mb << 20) + MAX_FORM_BYTES:
        raise too_large(settings.max_file_mb << 20)
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise _unsupported(request)
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise RequestError(
            "send the file as a form, with the header `content-type: multipart/form-data`",
            code="unsupported_media_type",
        )
    stream = request.stream
    if isinstance(stream, BoundedHttp):
        stream.allow_upload(settings.request_timeout)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _unsupported(request: Request) -> SanicException:
    """Return a 415 error, or the router's error for an unknown path."""
    try:
        request.app.router.get(request.path, request.method, request.headers.getone("host", None))
    except SanicException as error:
        return error
    return SanicException(status_code=415)
