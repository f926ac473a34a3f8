"""One real server a dtype, over the demo model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from live_server import Server, serving

from infrs.bundle.manifest import Dtype

sys.path.append(str(Path(__file__).parents[1] / "export"))  # arch_models.py, embedding_models.py, tiny_tokenizer.py


@pytest.fixture(scope="session")
def demo_server(demo_cache: Callable[[Dtype], Path]) -> Iterator[Callable[[Dtype], Server]]:
    """One server a dtype for the worker, started when first asked for."""

    with ExitStack() as stack:
        servers: dict[Dtype, Server] = {}

        def get(dtype: Dtype) -> Server:
            if dtype not in servers:
                cache = demo_cache(dtype)
                servers[dtype] = stack.enter_context(
                    serving("--demo", "--dtype", dtype, "--cache-dir", cache, "--threads", "1")
                )
            return servers[dtype]

        yield get
