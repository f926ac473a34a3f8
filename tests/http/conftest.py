from collections.abc import Iterator
from typing import Any

import pytest
from fake_process import FakeServer, fake_server
from sanic import Sanic

from infrs.config.settings import Settings
from infrs.http.app import create_app
from infrs.http.auth import Keys


@pytest.fixture(scope="session")
def server() -> Iterator[FakeServer]:
    """Start one fake server for the tests that do not change its state."""
    with fake_server(rows=4, max_queue=60, server={"access_log": False}) as running:
        yield running


@pytest.fixture(scope="session")
def blank_app() -> Sanic[Any, Any]:
    """Return the app with the default settings, without running it."""

    def never() -> Any:
        raise AssertionError("nothing is loaded here")

    app = create_app(Settings(), Keys(()), never, never)
    Sanic.unregister_app(app)  # Sanic knows apps by their names, one of each in a process
    return app
