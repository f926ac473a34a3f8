"""Run the app on an event loop from its first connection to the end of its drain.

`Sanic.run` ignores SIGINT and SIGTERM for a moment of its start, and a signal in that moment would be lost. So this
module runs the server's lifecycle itself.
"""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import asyncio
import os
import socket
import sys
from functools import partial
from typing import Any

from sanic import Sanic
from sanic.server import AsyncioServer, try_use_uvloop

from infrs.http.connection.accept import Acceptor
from infrs.http.connection.protocol import BoundedProtocol
from infrs.http.state import ServerState

_POLL_SECONDS = 0.1
_SWITCH_SECONDS = 0.001  # that a thread waits for the interpreter lock before it asks for it; the default is 0.005


def run_server(app: Sanic[Any, Any], listener: socket.socket) -> None:
    """Serve until `ServerState.stop`, then drain."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    try_use_uvloop()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(_serve(app, listener))
    finally:
        loop.close()


async def _serve(app: Sanic[Any, Any], listener: socket.socket) -> None:
    os.environ["SANIC_IGNORE_PRODUCTION_WARNING"] = "1"  # about options that this server does not have
    state: ServerState = app.ctx.state
    connections: set[BoundedProtocol] = set()
    loop = asyncio.get_running_loop()
    server = AsyncioServer(app, loop, None, connections)
    limits = state.settings.server
    acceptor = Acceptor(
        listener,
        state.connections,
        partial(BoundedProtocol, app=app, loop=loop, connections=connections),
        silence=min(limits.header_timeout, app.config.KEEP_ALIVE_TIMEOUT),
    )
    await server.startup()
    await server.before_start()
    acceptor.start()
    await server.after_start()
    await state.stopping.wait()
    await server.before_stop()
    await acceptor.close()
    await _close_connections(server, app.config.GRACEFUL_SHUTDOWN_TIMEOUT)
    await server.after_stop()


async def _close_connections(server: AsyncioServer, seconds: float) -> None:
    """Close idle connections, and the others after `seconds`."""
    for connection in list(server.connections):
        connection.close_if_idle()
    for _ in range(round(seconds / _POLL_SECONDS)):
        if not server.connections:
            return
        await asyncio.sleep(_POLL_SECONDS)
    for connection in list(server.connections):
        connection.abort()
