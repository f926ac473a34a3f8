"""The server that a command talks to: the one that is named, the one on this machine, or one of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import click

from infrs.bench.client import find_model
from infrs.bench.transport import Endpoint, ServerError, get_json
from infrs.config.settings import KEYS_VARIABLE
from infrs.errors import ConfigError
from infrs.terminal.own_server import own_server

DEFAULT_URL = "http://127.0.0.1:3000"
_PROBE_SECONDS = 2.0
_PATIENCE = 60.0  # seconds for a server to list its models


@dataclass(frozen=True, slots=True)
class Partner:
    """A model of a server."""

    endpoint: Endpoint
    model: str


def partner_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Add the flags that `reach` takes."""
    url = f"The server to use. [default: {DEFAULT_URL}, else one of its own]"
    key = f"The server's API key. [default: the first of {KEYS_VARIABLE}]"
    dtype = "How the weights of the model are stored, for a server of its own."
    command = click.option("--dtype", help=dtype)(command)
    command = click.option("--api-key", envvar=KEYS_VARIABLE, help=key)(command)
    return click.option("--url", help=url)(command)


def reach(stack: ExitStack, model: str | None, url: str | None, api_key: str | None, dtype: str | None) -> Partner:
    """Find a server that has the model, or start one that ends with `stack`.

    Raises ServerError, ConfigError if both a server and a dtype are named.
    """
    if dtype and url:
        raise ConfigError("--dtype is for a server of the command's own; leave out --url or --dtype", param="dtype")
    key = api_key.split(",")[0].strip() if api_key else None
    if url is None and dtype is None:
        with contextlib.suppress(ServerError, TimeoutError):
            return asyncio.run(_find(DEFAULT_URL, model, key, _PROBE_SECONDS))
    if url is None:
        click.echo("Starting a server...", err=True)
        url = stack.enter_context(own_server([*([model] if model else []), *(["--dtype", dtype] if dtype else [])]))
        model = None  # the only one that it has, whatever its id
    return asyncio.run(_find(url, model, key, _PATIENCE))


async def _find(url: str, model: str | None, api_key: str | None, seconds: float) -> Partner:
    """Return a model of a server, its first one for None. Raises ServerError, TimeoutError."""
    endpoint = Endpoint.parse(url, api_key)
    async with asyncio.timeout(seconds):
        if model is None:
            return Partner(endpoint, await find_model(endpoint))
        listed = (await get_json(endpoint, "/models")).get("data", ())
    names = {name for entry in listed for name in (entry.get("id"), *entry.get("aliases", ()))}
    if model not in names:
        ids = ", ".join(str(entry.get("id")) for entry in listed)
        raise ServerError(f"{endpoint.url} has no model {model}; it has {ids or 'none'}")
    return Partner(endpoint, model)
