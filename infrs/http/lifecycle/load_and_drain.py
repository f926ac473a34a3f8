"""Load the models, watch their threads, drain the server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from sanic import Sanic

from infrs.errors import DrainingError, EngineError, InfrsError
from infrs.http.auth import Keys, reread_keys
from infrs.http.lifecycle import drain_signals
from infrs.http.lifecycle.watchdog import until_failure
from infrs.http.state import ServerState
from infrs.models.registry import ModelRegistry

logger = logging.getLogger("infrs.server")


def install(
    app: Sanic[Any, Any],
    state: ServerState,
    keys: Keys,
    load: Callable[[ModelRegistry], Awaitable[None]],
    on_ready: Callable[[ModelRegistry], None],
) -> None:
    """Load the models when the server listens, stop it when an engine fails, drain it before it stops."""

    @app.after_server_start
    async def _start(app: Sanic[Any, Any]) -> None:
        drain_signals.on_hangup(partial(reread_keys, keys, state.settings.server))
        app.ctx.model_task = asyncio.create_task(_run_models(state, load, on_ready))

    @app.before_server_stop
    async def _stop(app: Sanic[Any, Any]) -> None:
        await drain(state)
        app.ctx.model_task.cancel()
        await asyncio.wait([app.ctx.model_task])

    @app.after_server_stop
    async def _stopped(app: Sanic[Any, Any]) -> None:
        if state.loaded:
            logger.info("stopped")


async def _run_models(
    state: ServerState,
    load: Callable[[ModelRegistry], Awaitable[None]],
    on_ready: Callable[[ModelRegistry], None],
) -> None:
    try:
        await load(state.models)
    except InfrsError as error:
        state.start_error = error
        state.stop(error.exit_code)
        return
    except Exception:
        logger.exception("the model could not be loaded")
        state.stop(1)
        return
    drain_signals.on_stop(state.stop)
    state.loaded = True
    if state.batches is not None:
        state.batches.start()
    on_ready(state.models)
    reason = await until_failure(state)
    if not state.draining:
        logger.critical("%s; the server exits", reason)
        state.fail_all(EngineError(reason))
        state.stop(EngineError.exit_code)


async def drain(state: ServerState) -> None:
    """Wait at most `server.drain_timeout` seconds for the requests in flight, then unload the models.

    Batches stop immediately, and the next start continues them.
    A second signal ends the process immediately.
    """
    state.draining = True
    drain_signals.end_by_default()
    drain_signals.ignore_hangup()
    if state.batches is not None:
        await state.batches.close()
    patience = state.settings.server.drain_timeout
    if count := state.models.num_in_flight:
        awaited = "1 request" if count == 1 else f"{count} requests"
        logger.info("stopping; waiting up to %g s for %s; a second signal ends it immediately", patience, awaited)
    error = DrainingError("the server shut down before the answer was complete")
    if not await state.models.wait_idle(patience):
        state.fail_all(error)
    await state.models.close(error)
    state.text.close()
