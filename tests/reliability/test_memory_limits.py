"""With little memory the server names the setting to lower at start, and refuses requests instead of dying."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

import pytest
from fake_process import MODEL, FakeServer, fake_server

from infrs.bundle.manifest import Dtype
from infrs.errors import ConfigError

MIB = 1 << 20
BODY = 4 << 20  # the largest that a server takes


def mapped_bytes(server: FakeServer) -> int:
    pages = Path(f"/proc/{server.process.pid}/statm").read_text().split()[0]
    return int(pages) * resource.getpagesize()


def limit(server: FakeServer, num_bytes: int) -> None:
    resource.prlimit(server.process.pid, resource.RLIMIT_AS, (num_bytes, resource.RLIM_INFINITY))


def large(kind: str) -> tuple[str, bytes]:
    """A path and a body of BODY bytes: a text, a text of words, token ids, objects in objects' places."""
    fields: dict[str, object] = {"model": MODEL}
    path = "/v1/completions"
    match kind:
        case "chat":
            path, fields["messages"] = "/v1/chat/completions", [{"role": "user", "content": "x" * (BODY - 200)}]
        case "words":
            fields["prompt"] = "hello world " * (BODY // 13)
        case "ids":
            fields["prompt"] = [7] * (BODY // 4)
        case "messages":
            message = {"role": "user", "content": "x"}
            path, fields["messages"] = "/v1/chat/completions", [message] * (BODY // 40)
    body = json.dumps(fields).encode()
    assert BODY // 2 < len(body) <= BODY
    return path, body


@pytest.mark.parametrize("kind", ["chat", "words", "ids", "messages"])
def test_a_request_that_is_too_large_for_memory_is_refused(kind: str) -> None:
    """Memory ends before the body, while it is read, or while it is parsed. The server refuses it and stays alive.

    orjson ends the process when it cannot allocate a list or an object, so memory is reserved before it starts.
    """
    path, body = large(kind)
    with fake_server(engine="synthetic", capacity=96) as server:
        assert server.complete("hi", max_tokens=2).status == 200
        seen = set()
        for room in (0, 6, 24, 48, 96, 200, 300):
            limit(server, mapped_bytes(server) + room * MIB)
            try:
                seen.add(server.request("POST", path, body).status)
            except (OSError, HTTPException):  # not even an answer: it has none to give
                seen.add(0)
            limit(server, resource.RLIM_INFINITY)
            assert server.complete("hi", max_tokens=2).status == 200
        assert 503 in seen
        assert seen <= {0, 400, 503}
        assert server.request("POST", path, body).status == 400
        server.wait_idle()


@pytest.mark.slow
@pytest.mark.parametrize(("room", "length"), [(600, 64), (1200, 8192)], ids=["weights", "slab"])
def test_a_start_without_memory_names_the_setting_to_lower(
    demo_bundle: Callable[[Dtype], Path], room: int, length: int
) -> None:
    command = [sys.executable, "-m", "infrs", "--bundle", str(demo_bundle("int8")), "--port", "0"]
    done = subprocess.run(
        [*command, "--kv-budget-mb", "4096", "--max-model-len", str(length)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (room * MIB, room * MIB)),
    )
    assert done.returncode == ConfigError.exit_code, done.stderr
    assert "Traceback" not in done.stderr
    assert "lower engine.max_num_seqs, engine.max_model_len or engine.kv_budget_mb" in done.stderr
