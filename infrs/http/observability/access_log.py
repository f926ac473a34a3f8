"""Request ids, the access log, and request counts by route and status."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Mapping
from typing import Any

from sanic import HTTPResponse, Request, Sanic
from sanic.http import Http

from infrs.api.anthropic import errors as anthropic_errors
from infrs.api.output import ndjson, sse
from infrs.http.error_handler import CLIENT_GONE
from infrs.http.state import ServerState, state_of

logger = logging.getLogger("infrs.access")

_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_LONGEST_PATH = 200
_STREAMS = (sse.CONTENT_TYPE, ndjson.CONTENT_TYPE)


def install(app: Sanic[Any, Any], state: ServerState) -> None:
    """Record the arrival of each request, and send its id with every response."""

    @app.signal("http.lifecycle.request", priority=1)
    async def _received(request: Request) -> None:
        request.ctx.received = time.perf_counter()

    @app.on_response  # type: ignore[untyped-decorator]  # Sanic types this one as Any
    async def _answered(request: Request, response: HTTPResponse) -> None:
        response.headers["x-request-id"] = request_id(request)
        if request.path in anthropic_errors.PATHS:
            response.headers["request-id"] = request_id(request)
        request.body = b""  # a request is part of a reference cycle, which may outlive hundreds of requests
        if state.draining and isinstance(request.stream, Http):
            request.stream.keep_alive = False
        if response.content_type not in _STREAMS:  # a stream reports its own end
            finished(request, response.status)


def request_id(request: Request) -> str:
    """Return the client's `x-request-id` if it is short and plain, else a new id. It is made once per request."""
    if not hasattr(request.ctx, "request_id"):
        given = request.headers.get("x-request-id", "")
        request.ctx.request_id = given if _ID.fullmatch(given) else uuid.uuid4().hex
    return str(request.ctx.request_id)


def finished(request: Request, status: int) -> None:
    """Count and log a finished request, without its query and body."""
    state = state_of(request)
    now = time.perf_counter()
    received = getattr(request.ctx, "received", now)
    submission = getattr(request.ctx, "submission", None)
    seconds = now - received
    route = f"/{request.route.path}" if request.route else "none"
    state.metrics.requests.labels(route, str(status)).inc()
    state.metrics.duration.labels(route).observe(seconds)
    if state.traces is not None:
        state.traces.record(
            method=request.method if request.route else "HTTP",  # a fixed value: a client could send any method
            route=route,
            status=status,
            request_id=request_id(request),
            received=received,
            headers=request.headers,
            submission=submission,
        )
    if status == CLIENT_GONE:
        state.metrics.cancelled.inc()
    elif state.draining and status < 400:
        state.metrics.drained.inc()
    if state.settings.server.access_log:
        path = ascii(request.path[:_LONGEST_PATH])[1:-1]
        method = ascii(request.method[:16])[1:-1]
        figures: dict[str, float] = submission.meter.figures if submission else {}
        failure: dict[str, str | None] = getattr(request.ctx, "failure", {})
        fields = {
            "request_id": request_id(request),
            "method": method,
            "path": path,
            "status": status,
            "seconds": round(seconds, 6),
            **figures,
            **failure,
        }
        words = "".join(f" {word}" for word in failure.values() if word) + _in_words(figures)
        line = (method, path, status, 1000 * seconds, fields["request_id"], words)
        logger.info("%s %s %d %.1f ms %s%s", *line, extra={"fields": fields})


def _in_words(figures: Mapping[str, float]) -> str:
    if not figures:
        return ""
    words = f", {figures['prompt_tokens']} tokens in ({figures['cached_tokens']} cached)"
    words += f", {figures['completion_tokens']} out"
    if "first_token_seconds" in figures:
        words += f", the first after {1000 * figures['first_token_seconds']:.1f} ms"
    if "tokens_per_second" in figures:
        words += f", then {figures['tokens_per_second']:.1f} a second"
    return words
