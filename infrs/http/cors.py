"""Which web pages may call the server: its own and those of `server.cors_origins` (the Fetch standard's CORS protocol).

Without CORS headers a browser keeps the answer from a page of another origin, but it still sends the request, which
costs a generation. So the request itself is refused. No credentials but the `Authorization` header are allowed, and
never the origin `null`, which any page can give itself.
"""

from __future__ import annotations

import re
from typing import Any

from sanic import HTTPResponse, Request, Sanic
from sanic_routing.route import Route

from infrs.api.common.errors import OriginNotAllowedError
from infrs.config.settings import ServerSettings
from infrs.errors import ConfigError

_PREFLIGHT = "preflight"
_SECONDS_TO_REMEMBER = "600"
_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/\s]+")  # of a web page, an extension or a desktop app
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
# Allowed where a preflight does not say which it asks for.
_HEADERS = "anthropic-version, authorization, content-type, x-api-key, x-request-id"
_HEADER_LIST = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, -]+")


def origins(settings: ServerSettings) -> frozenset[str]:
    """The origins that are allowed, as browsers write them. Raises ConfigError for what is none."""
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

    Other clients send no `Origin`. A browser's `Sec-Fetch-Site`, which no page can set, tells a same-origin page even
    behind a proxy that rewrites `Host`, and a cross-site request that has no `Origin`.
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
    """Whether an origin is that of the host a request names. The scheme may differ: a proxy may end TLS."""
    scheme, _, authority = origin.partition("://")
    port = _DEFAULT_PORTS.get(scheme, "")
    return bool(port and host) and authority.removesuffix(port) == host.removesuffix(port)


def install(app: Sanic[Any, Any], settings: ServerSettings) -> None:
    """Let the pages of `server.cors_origins` in. Call it when all routes are there."""
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
            response.headers["access-control-expose-headers"] = "x-request-id, retry-after"


def is_preflight(request: Request, route: Route) -> bool:
    """Whether a browser asks, by itself and hence without a key, if a page may call a route."""
    return request.method == "OPTIONS" and getattr(route.ctx, "is_preflight", False)


async def _preflight(request: Request, **_: str) -> HTTPResponse:
    """Allow the headers that are asked for: SDKs add their own, such as `x-stainless-os` and `anthropic-beta`."""
    asked = request.headers.get("access-control-request-headers", "")
    return HTTPResponse(
        status=204,
        headers={
            "access-control-allow-methods": "DELETE, GET, HEAD, POST",
            "access-control-allow-headers": asked if _HEADER_LIST.fullmatch(asked) else _HEADERS,
            "access-control-max-age": _SECONDS_TO_REMEMBER,
        },
    )
