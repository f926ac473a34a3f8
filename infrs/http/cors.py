"""CORS: allow the server's own web pages and those of `server.cors_origins` (the Fetch standard's CORS protocol).

Without CORS headers, a browser hides the answer from a page of another origin, but it still sends the request, which
costs a generation. So the server refuses the request. It allows no credentials except the `Authorization` header, and
never the origin `null`, which any page can claim.
"""

from __future__ import annotations

import re
from typing import Any

from sanic import HTTPResponse, Request, Sanic
from sanic_routing.route import Route

from infrs.api.common.errors import OriginNotAllowedError
from infrs.api.common.ignored import HEADER
from infrs.config.settings import ServerSettings
from infrs.errors import ConfigError

_PREFLIGHT = "preflight"
_SECONDS_TO_REMEMBER = "600"
_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/\s]+")  # of a web page, an extension or a desktop app
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
# Allowed if a preflight does not list headers.
_HEADERS = "anthropic-version, authorization, content-type, x-api-key, x-request-id"
_HEADER_LIST = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, -]+")


def origins(settings: ServerSettings) -> frozenset[str]:
    """Return the allowed origins, as browsers write them. Raises ConfigError for an invalid origin."""
    given = frozenset(origin.strip() for origin in settings.cors_origins.split(",") if origin.strip())
    for origin in sorted(given):
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise ConfigError(
                f"server.cors_origins: {origin[:80]!a} is not allowed; allowed: *, or origins such as "
                "https://example.com, without a path",
                param="server.cors_origins",
            )
    return given


def check_origin(request: Request, allowed: frozenset[str]) -> None:
    """Raise OriginNotAllowedError for a request from a page that is neither the server's own nor allowed.

    Clients other than browsers send no `Origin`. A browser's `Sec-Fetch-Site`, which no page can set, identifies a
    same-origin page even behind a proxy that rewrites `Host`, and a cross-site request without `Origin`.
    """
    site = request.headers.get("sec-fetch-site", "")
    origins = [origin for origin in request.headers.getall("origin", []) if origin]
    if "*" in allowed or site in ("same-origin", "none"):
        return
    host = request.headers.get("host", "").lower()
    foreign = [origin for origin in origins if origin not in allowed and not _is_own(origin.lower(), host)]
    if foreign or (site == "cross-site" and not origins):
        what = ascii(foreign[0])[:80] if foreign else "another site"
        raise OriginNotAllowedError(
            f"a page of {what} may not call this server; to allow it, add its origin to server.cors_origins",
            param="origin",
        )


def _is_own(origin: str, host: str) -> bool:
    """Return whether an origin matches the Host of a request. The scheme may differ: a proxy may terminate TLS."""
    scheme, _, authority = origin.partition("://")
    port = _DEFAULT_PORTS.get(scheme, "")
    return bool(port and host) and authority.removesuffix(port) == host.removesuffix(port)


def install(app: Sanic[Any, Any], settings: ServerSettings) -> None:
    """Allow the pages of `server.cors_origins`. Call it after all routes are added."""
    allowed = origins(settings)
    if not allowed:
        return
    paths = dict.fromkeys(route.path for route in app.router.routes)  # some have a route for each method
    for number, path in enumerate(paths):
        app.add_route(_preflight, f"/{path}", methods=["OPTIONS"], name=f"{_PREFLIGHT}-{number}", ctx_is_preflight=True)

    @app.on_response  # type: ignore[untyped-decorator]  # Sanic types this one as Any
    async def _allow(request: Request, response: HTTPResponse) -> None:
        origin = request.headers.get("origin", "null")
        response.headers["vary"] = "origin"
        if origin != "null" and (origin in allowed or "*" in allowed):
            response.headers["access-control-allow-origin"] = origin if origin in allowed else "*"
            response.headers["access-control-expose-headers"] = f"x-request-id, retry-after, {HEADER}"


def is_preflight(request: Request, route: Route) -> bool:
    """Return whether a request is a browser's preflight, which carries no key."""
    return request.method == "OPTIONS" and getattr(route.ctx, "is_preflight", False)


async def _preflight(request: Request, **_: str) -> HTTPResponse:
    """Allow the requested headers: SDKs add their own, such as `x-stainless-os` and `anthropic-beta`."""
    asked = request.headers.get("access-control-request-headers", "")
    return HTTPResponse(
        status=204,
        headers={
            "access-control-allow-methods": "DELETE, GET, HEAD, POST",
            "access-control-allow-headers": asked if _HEADER_LIST.fullmatch(asked) else _HEADERS,
            "access-control-max-age": _SECONDS_TO_REMEMBER,
        },
    )
