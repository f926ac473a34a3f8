"""The Sanic app: its configuration and its routes."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import orjson
from sanic import Sanic

from infrs.batches.pace import Pace, has_room
from infrs.batches.service import Batches
from infrs.config.settings import ServerSettings, Settings
from infrs.errors import ConfigError
from infrs.http import cors, request_guard
from infrs.http.auth import Keys
from infrs.http.connection.protocol import MAX_HEAD_BYTES, limit_unsent, notice_lost_peers
from infrs.http.error_handler import WireErrorHandler
from infrs.http.lifecycle import drain_signals
from infrs.http.lifecycle import load_and_drain as lifecycle
from infrs.http.lifecycle.serve import run_server
from infrs.http.observability import access_log as access
from infrs.http.observability.tracing import open_traces
from infrs.http.routes import web
from infrs.http.routes.batches.inner import Answerer
from infrs.http.routes.table import ROUTES
from infrs.http.state import ServerState
from infrs.models.registry import ModelRegistry

logger = logging.getLogger("infrs.server")


def create_app(
    settings: Settings,
    keys: Keys,
    load: Callable[[ModelRegistry], Awaitable[None]],
    on_ready: Callable[[ModelRegistry], None],
) -> Sanic[Any, Any]:
    """Build the app. `load` runs once the server listens; `on_ready` is called when it has loaded the models.

    Raises ConfigError for an invalid setting.
    """
    app: Sanic[Any, Any] = Sanic(
        "infrs",
        configure_logging=False,
        dumps=orjson.dumps,
        loads=orjson.loads,
        error_handler=WireErrorHandler(),
        request_class=request_guard.StrictRequest,
        strict_slashes=True,
    )
    app.config.update(
        {
            "REQUEST_MAX_SIZE": settings.server.max_body_bytes,
            "REQUEST_MAX_HEADER_SIZE": MAX_HEAD_BYTES,
            "REQUEST_TIMEOUT": settings.server.header_timeout + 5,  # later than our own: see connection.protocol
            "RESPONSE_TIMEOUT": settings.server.request_timeout + 30,  # later than our own, which gives a reason
            "KEEP_ALIVE_TIMEOUT": 75,
            "GRACEFUL_SHUTDOWN_TIMEOUT": 2,  # after the drain
            "ACCESS_LOG": False,
            "AUTO_EXTEND": False,
            "MOTD": False,
        }
    )
    state = app.ctx.state = ServerState(settings, open_traces() if settings.server.traces else None)
    if settings.server.files_dir:
        state.batches = open_batches(app, state)
    request_guard.install(app, state, keys)
    access.install(app, state)
    lifecycle.install(app, state, keys, load, on_ready)
    for route in ROUTES:
        operation = route.operation
        app.add_route(route.handler, operation.path, methods=route.methods, name=route.name, stream=operation.is_upload)
    web.install(app, has_page=settings.server.web)
    cors.install(app, settings.server)
    return app


def open_batches(app: Sanic[Any, Any], state: ServerState) -> Batches:
    """Open the stored files and the batches. Raises ConfigError."""
    settings = state.settings
    max_rows = settings.server.max_batch_rows or max(1, settings.engine.max_num_seqs // 2)
    return Batches(settings.server, Pace(max_rows, partial(has_room, state.models)), Answerer(app, state))


def listen(server: ServerSettings) -> socket.socket:
    """Bind the address before the model is loaded. Raises ConfigError if that fails."""
    host, port = server.host, server.port
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        notice_lost_peers(listener)
        limit_unsent(listener)
        listener.bind(address)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}, port {port}: {error.strerror}; set server.host and server.port",
            param="server.port",
        ) from error
    return listener


def run(app: Sanic[Any, Any], listener: socket.socket) -> int:
    """Serve until a signal or a failure, and return the exit code of the process.

    Raises the InfrsError of a failed `load`.
    """
    drain_signals.end_by_default()
    run_server(app, listener)
    state: ServerState = app.ctx.state
    if state.start_error is not None:
        raise state.start_error
    if state.text.busy_for():
        logger.warning("text work of a request still runs; the process does not wait for it")
        logging.shutdown()
        sys.stdout.flush()
        os._exit(state.exit_code)  # the interpreter would wait for the thread
    return state.exit_code
