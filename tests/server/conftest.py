from collections.abc import Iterator

import pytest
from fake_process import FakeServer, fake_server


@pytest.fixture(scope="session")
def server() -> Iterator[FakeServer]:
    """One fake server for the tests that leave it as they found it."""
    with fake_server(rows=4, max_queue=60) as running:
        yield running
