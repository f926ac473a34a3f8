"""`/` and `/web/`: the web page and its files."""

from __future__ import annotations

from typing import Any

from sanic import HTTPResponse, Request, Sanic
from sanic.exceptions import NotFound

from infrs.http.request_guard import PAGE_FILES_ROUTE, PAGE_ROUTE
from infrs.web.files import INDEX, StaticFile, static_files

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "cache-control": "no-cache",  # a browser asks again and gets a 304 until infrs is upgraded
    "content-security-policy": _POLICY,
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def install(app: Sanic[Any, Any], *, has_page: bool) -> None:
    """Add `/`, and the page's files. They are no part of the API, so `/openapi.json` does not list them."""
    app.add_route(page if has_page else no_page, f"/{PAGE_ROUTE}", methods=["GET", "HEAD"])
    if has_page:
        static_files()  # read now, not while the server answers
        app.add_route(page_file, f"/{PAGE_FILES_ROUTE}", methods=["GET", "HEAD"])


async def no_page(request: Request) -> HTTPResponse:
    """Answer a HEAD of `/`, by which the program `ollama` looks for a server. A GET is the 404 of any unknown path."""
    if request.method != "HEAD":
        raise NotFound
    return HTTPResponse(content_type="text/plain; charset=utf-8")


async def page(request: Request) -> HTTPResponse:
    """Return the page to a browser, and to other clients what `no_page` returns."""
    if "text/html" not in request.headers.get("accept", ""):
        return await no_page(request)
    return _answer(request, static_files()[INDEX])


async def page_file(request: Request, name: str) -> HTTPResponse:
    """Return a file of the page by its path below `/web/`. The page itself is at `/` only."""
    file = static_files().get(name)
    if file is None or name == INDEX:
        raise NotFound
    return _answer(request, file)


def _answer(request: Request, file: StaticFile) -> HTTPResponse:
    headers = _HEADERS | {"etag": file.etag}
    if request.route is not None and request.route.path == PAGE_ROUTE:
        headers["vary"] = "accept"
    if file.is_match(request.headers.get("if-none-match", "")):
        return HTTPResponse(status=304, headers=headers)
    return HTTPResponse(file.content, headers=headers, content_type=file.content_type)
