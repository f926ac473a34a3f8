"""Answer a request of a batch: run the handler of its route, as for a request of a client."""

from __future__ import annotations

import time
import uuid
from typing import Any, cast

import orjson
from sanic import HTTPResponse, Request, Sanic
from sanic.compat import Header

from infrs.batches.lines import BatchRequest
from infrs.batches.pace import Row
from infrs.core import RequestContext
from infrs.http.error_handler import JSON
from infrs.http.observability import access_log as access
from infrs.http.state import ServerState


class Answerer:
    """Answers requests of batches with the routes of an app, so that the bodies are those of a client's request."""

    def __init__(self, app: Sanic[Any, Any], state: ServerState) -> None:
        self._app, self._state = app, state

    async def __call__(self, asked: BatchRequest, row: Row) -> tuple[int, str, bytes]:
        """Return the status, the id of the request and the body. The answer to a failure is that of the route."""
        request = self._request(asked, row.tenant)
        row.is_submitted = lambda: hasattr(request.ctx, "submission")
        route, handler, _ = self._app.router.get(asked.url, "POST", None)
        request.route = route
        try:
            response = cast(HTTPResponse, await handler(request))  # a line asks for no stream
        except Exception as error:  # each kind has its answer
            response = self._app.error_handler.default(request, error)
        access.finished(request, response.status)
        return response.status, access.request_id(request), response.body or b"null"

    def _request(self, asked: BatchRequest, tenant: str) -> Request:
        headers = Header({"content-type": JSON})
        request = Request(asked.url.encode(), headers, "1.1", "POST", None, self._app)  # type: ignore[arg-type]
        request.body = orjson.dumps(asked.body)
        request.ctx.request_id = name = uuid.uuid4().hex
        request.ctx.received = time.perf_counter()
        request.ctx.context = RequestContext.start(name, tenant, self._state.settings.server.request_timeout)
        return request
