"""Turn every exception, including Sanic's, into an error of the route's API: OpenAI's, Anthropic's or Ollama's."""

from __future__ import annotations

import logging
from asyncio import CancelledError
from collections.abc import Mapping
from contextlib import suppress

from sanic import HTTPResponse, Request
from sanic.exceptions import PayloadTooLarge, RequestCancelled, SanicException
from sanic.handlers import ErrorHandler

from infrs.api.anthropic import errors as anthropic_errors
from infrs.api.common.errors import RETRY_AFTER_SECONDS, error_body, message_of, status_of
from infrs.api.ollama import errors as ollama_errors
from infrs.errors import DrainingError, InfrsError, OutOfMemoryError
from infrs.http.state import state_of
from infrs.spelling import nearest

logger = logging.getLogger("infrs.server")

JSON = "application/json"
CLIENT_GONE = 499  # nginx's status for a client that disconnected before its answer

_LONGEST_PARAM = 100  # in the access log; a client may send any name
_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "POST")  # of all routes

# Statuses that Sanic raises: the code and the message for the client.
_WORDS = {
    400: ("bad_request", "the request is not valid HTTP"),
    403: ("forbidden", "the request is not allowed here"),
    404: ("not_found", "no such path"),
    405: ("method_not_allowed", "this path does not take this method"),
    408: ("request_timeout", "the request did not arrive in time"),
    413: (
        "request_too_large",
        "the request body is larger than server.max_body_bytes allows, or in smaller pieces; shorten it or raise that",
    ),
    415: (
        "unsupported_media_type",
        "send the body with the header `content-type: application/json`, in UTF-8 and without a content encoding",
    ),
    417: ("expectation_failed", "only `Expect: 100-continue` is understood"),
    431: ("headers_too_large", "the request's head is larger than this server takes"),
    503: ("request_timeout", "the request took longer than this server allows"),
}
# What a client of Ollama's can do for a route that changes models.
_INSTEAD = {
    "pull": "downloads no models; run `infrs pull` with the id of one, name it in `models`, and start the server again",
    "push": "publishes no models; copy the folder of its bundle, which `infrs models` shows",
    "create": "makes no models; run `infrs-export` with a model and a dtype, and name it in `models`",
    "copy": "copies no models; set `model_alias` of a model for another name",
    "delete": "deletes no models; take it out of `models`, and run `infrs models remove`",
}
# Paths of OpenAI's and Ollama's APIs that this server does not have: what to do instead.
_ABSENT = {
    "/v1/conversations": "this server has no conversations; send previous_response_id to /v1/responses",
    **{f"/api/{name}": f"this server {instead}" for name, instead in _INSTEAD.items()},
}
_RETRY = {"retry-after": str(RETRY_AFTER_SECONDS)}
_HEADERS = {401: {"www-authenticate": "Bearer"}, 426: {"upgrade": "websocket"}, 429: _RETRY, 503: _RETRY}


class WireErrorHandler(ErrorHandler):
    """Answers any exception with an error in the shape of the route's API, and logs unexpected ones."""

    def default(self, request: Request, exception: BaseException) -> HTTPResponse:
        """Build the response. Sanic calls this for every exception of a route or of its own."""
        if isinstance(exception, InfrsError):
            state_of(request).metrics.errors.labels(exception.code).inc()
            return _failure(request, exception)
        if isinstance(exception, RequestCancelled):
            return HTTPResponse(status=CLIENT_GONE)  # for the log only: the client is disconnected
        if isinstance(exception, CancelledError):
            return _failure(request, DrainingError("the server shut down before the answer was complete"))
        if isinstance(exception, SanicException) and (answered := _refusal(request, exception)):
            return answered
        log_failure(exception)
        if isinstance(exception, MemoryError):
            return _failure(request, OutOfMemoryError("the server is short of memory; try again in a moment"))
        return _response(request, 500, "the server failed; see its log", "internal_error")


def _refusal(request: Request, exception: SanicException) -> HTTPResponse | None:
    """Return the response of an exception of Sanic's; None for a status that it does not raise."""
    status, path = exception.status_code or 500, request.path.rstrip("/")
    if isinstance(exception, PayloadTooLarge) and request.method == "NONE":  # the head, not the body
        status = 431
    if status not in _WORDS:
        return None
    if status in (404, 405) and path in _ABSENT:
        return _response(request, 404, _ABSENT[path], "not_found")
    code, message = _WORDS[status]
    headers = {}
    if status == 404:
        message = f"{message}; {_path_hint(request)}"
    elif status == 405:
        headers["allow"] = _allowed_methods(request)
        message = f"{message}; send {headers['allow']}"
    return _response(request, status, message, code, headers=headers)


def _path_hint(request: Request) -> str:
    """Return a suggestion for an unknown path."""
    meant = nearest(
        request.path, [f"/{route.path}" for route in request.app.router.routes if route.path and not route.params]
    )
    return f"did you mean {meant}?" if meant else "see /v1/models and /v1/chat/completions"


def _allowed_methods(request: Request) -> str:
    """Return the value of `Allow`. Sanic does not know it for a path with parameters and several routes."""
    host = request.headers.getone("host", None)
    allowed = []
    for method in _METHODS:
        with suppress(SanicException):
            request.app.router.get(request.path, method, host)
            allowed.append(method)
    return ", ".join(allowed)


def _failure(request: Request, error: InfrsError) -> HTTPResponse:
    """Return the response of an InfrsError."""
    status = status_of(error)
    if status == 500:
        log_failure(error)
    words = message_of
    if request.path in anthropic_errors.PATHS:
        words = anthropic_errors.message_of
    elif request.path.startswith(ollama_errors.PREFIX):
        words = ollama_errors.message_of
    return _response(request, status, words(error), error.code, param=error.param, headers=_HEADERS.get(status))


def _response(
    request: Request,
    status: int,
    message: str,
    code: str,
    *,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> HTTPResponse:
    """Return an error response. status: as OpenAI's clients expect it."""
    request.ctx.failure = {"code": code, "param": param and param[:_LONGEST_PARAM]}
    if request.path in anthropic_errors.PATHS:
        status = anthropic_errors.anthropic_status(status)
        body = anthropic_errors.error_body(message, status=status, code=code, param=param)
    elif request.path.startswith(ollama_errors.PREFIX):
        status, body = ollama_errors.ollama_status(status), ollama_errors.error_body(message)
    else:
        body = error_body(message, status=status, code=code, param=param)
    return HTTPResponse(body, status, dict(headers or {}), JSON)


def log_failure(error: BaseException) -> None:
    """Log an internal failure, with its traceback unless it is an InfrsError, which says all that is known."""
    unexpected = None if isinstance(error, InfrsError) else error
    logger.error("request failed: %s: %s", type(error).__name__, ascii(str(error)), exc_info=unexpected)
