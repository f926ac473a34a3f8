"""No secret leaves the server, no prompt reaches its log, and no client can forge a log line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fake_process import JSON, MODEL, Answer, FakeServer, fake_server

from infrs.http.request_guard import RERANK_PATHS, SCORE_PATHS
from infrs.http.routes.table import ROUTES

ROOT = Path(__file__).parents[2]
FAULTY = ROOT / "tests" / "http" / "faulty_server.py"
KEY, OTHER_KEY, TOKEN = "key-0123456789-canary", "other-9876543210-canary", "hf_canary_of_this_test"
FORMATS = ("text", "json")
HEAD = b"\r\nHost: localhost\r\nConnection: close\r\n"
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ [\w.]+: ")
# A line of its own, colours, an end, a letter that turns the line around, and what else ends a line somewhere.
INJECTED = "\r\nINJECTED \x1b[31m\x00\u202e\u2028\x85\x9b"


@contextmanager
def logging_server(**options: Any) -> Iterator[tuple[FakeServer, Callable[[], str]]]:
    """A server, and what ends it and gives all that it has logged."""
    with fake_server(**options) as server:

        def end() -> str:
            server.process.terminate()
            return server.output()

        yield server, end


def requests() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each route, with a body that it answers where it takes one."""
    messages = [{"role": "user", "content": "a canary"}]
    bodies: dict[str, dict[str, Any]] = {
        "/v1/chat/completions": {"messages": messages, "max_tokens": 2},
        "/v1/responses": {"input": "a canary", "max_output_tokens": 16},
        "/v1/responses/input_tokens": {"input": "a canary"},
        "/v1/completions": {"prompt": "a canary", "max_tokens": 2},
        "/v1/messages": {"messages": messages, "max_tokens": 2},
        "/v1/messages/count_tokens": {"messages": messages},
        "/v1/embeddings": {"input": "a canary"},
        **{path: {"query": "a canary", "documents": ["a canary"]} for path in RERANK_PATHS},
        **{path: {"text_1": "a canary", "text_2": "a canary"} for path in SCORE_PATHS},
        "/classify": {"input": "a canary"},
        "/api/chat": {"messages": messages, "options": {"num_predict": 2}},
        "/api/generate": {"prompt": "a canary", "options": {"num_predict": 2}},
        "/api/embed": {"input": "a canary"},
        "/api/embeddings": {"prompt": "a canary"},
        "/api/show": {},
        "/v1/responses/compact": {"input": "a canary"},
        "/v1/files": {},
        "/v1/batches": {"input_file_id": "file_none", "endpoint": "/v1/embeddings", "completion_window": "24h"},
        "/v1/batches/<batch_id>/cancel": {},
        "/v1/models/load": {},
        "/v1/models/unload": {},
        "/tokenize": {"prompt": "a canary"},
        "/detokenize": {"tokens": [104]},
        "/apply-template": {"messages": messages},
    }
    paths = {route.operation.path for route in ROUTES if route.operation.method == "POST"}
    assert paths == bodies.keys() | {"/v1/responses"}
    for route in ROUTES:
        body = {"model": MODEL, **bodies.get(route.operation.path, {})}
        path = re.sub(r"<(response|batch|file)_id>", r"\1_none", route.operation.path.replace("<model_id:path>", MODEL))
        yield route.operation.method, path, body


def send(server: FakeServer, method: str, path: str, body: object, headers: Mapping[str, str] | None = None) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return server.request(method, path, data if method == "POST" else None, {**JSON, **(headers or {})})


@pytest.mark.parametrize("log_format", FORMATS)
@pytest.mark.parametrize("script", ["fake", "faulty"])
def test_no_secret_is_logged(script: str, log_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In all that each route answers, well and badly, in the log with all its details, in /metrics and in `ps`."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    settings = {"log_level": "debug", "log_format": log_format}
    options: dict[str, Any] = (
        {"script": FAULTY} if script == "faulty" else {"embedding": "beside", "classifier": "beside"}
    )
    with logging_server(keys=f"{KEY},{OTHER_KEY}", server=settings, **options) as (server, end):
        bearer, answers, statuses = {"authorization": f"Bearer {KEY}"}, [], set()

        def note(answer: Answer) -> None:
            answers.append(repr((answer.headers, answer.body)))
            statuses.add(answer.status)

        for method, path, body in requests():
            for headers in (bearer, {"x-api-key": KEY}, {"authorization": f"Basic {KEY}"}, {"authorization": KEY}):
                note(send(server, method, path, body, headers))
            for wrong in (KEY[:-1], f"{KEY}x", f"{KEY} ", KEY.upper(), f"{KEY},{OTHER_KEY}"):
                note(send(server, method, path, body, {"authorization": f"Bearer {wrong}"}))
            note(send(server, method, f"{path}?key={KEY}&api_key={TOKEN}", body))
            note(send(server, "PATCH", path, body, bearer))
            note(send(server, method, path, body, bearer | {"content-type": "text/plain", "cookie": f"key={KEY}"}))
            if method == "POST":
                for bad in (
                    b"",
                    b"{",
                    b"[]",
                    b"{}",
                    {**body, "stream": True},
                    {**body, "foo": KEY},
                ):
                    note(send(server, method, path, bad, bearer))
        for word in ("boom", "boom-first", "unreadable", "panic", "memory", "x" * 600):
            for stream in (False, True):
                messages = [{"role": "user", "content": word}]
                body = {"model": MODEL, "messages": messages, "max_tokens": 4, "stream": stream}
                note(send(server, "POST", "/v1/chat/completions", body, bearer))
        server.raw(f"GET /\x1b HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode())
        server.raw(f"GET /health HTTP/1.1\r\nHost: a b\r\nAuthorization : Bearer {KEY}\r\n\r\n".encode())
        command = Path(f"/proc/{server.process.pid}/cmdline").read_bytes()
        log = end()
    assert statuses >= {200, 400, 401, 404, 405, 415}
    assert (statuses & {500, 503}) != set()
    for place in (command.decode(), *answers):
        for secret in (KEY, OTHER_KEY, TOKEN):
            assert secret not in place
    for line in log.splitlines():
        assert re.search("canary", line, re.IGNORECASE) is None, line


@pytest.mark.parametrize("log_format", FORMATS)
def test_log_has_no_lines_of_libraries(log_format: str) -> None:
    """Control characters in paths, headers, model names and ids."""
    settings = {"log_level": "debug", "log_format": log_format}
    with logging_server(server=settings, embedding="beside") as (server, end):
        quoted = "".join(f"%{byte:02x}" for byte in INJECTED.encode())
        for method, path, body in requests():
            send(server, method, f"{path}/{quoted}?{quoted}={quoted}", body)
            if method == "POST":
                for name in ("model", "user", "stop", "prompt", "input", "previous_response_id", INJECTED):
                    send(server, method, path, {**body, name: INJECTED})
                for name, value in (
                    ("metadata", {INJECTED: INJECTED}),
                    ("messages", [{"role": INJECTED, "content": "x", "name": INJECTED}]),
                    ("tools", [{"type": INJECTED, "name": INJECTED, "function": {"name": INJECTED}}]),
                    ("response_format", {"type": "json_schema", "json_schema": {"name": INJECTED, "schema": {}}}),
                ):
                    send(server, method, path, {**body, name: value})
        for byte in (bytes([value]) for value in INJECTED.encode()):
            for header in (b"x-request-id", b"user-agent", b"host", b"traceparent", b"content-type", b"authorization"):
                server.raw(b"GET /health HTTP/1.1" + HEAD + header + b": a" + byte + b"b\r\n\r\n", wait=1)
            server.raw(b"GET /a" + byte + b"b HTTP/1.1" + HEAD + b"\r\n", wait=1)
            server.raw(b"G" + byte + b"T / HTTP/1.1" + HEAD + b"\r\n", wait=1)
        log = end()
    lines = log.splitlines()
    assert len(lines) > 100
    assert re.findall(r"[^\x20-\x7e\n]", log) == []
    assert [line for line in lines if line.startswith("INJECTED")] == []
    if log_format == "json":
        assert all(isinstance(json.loads(line), dict) for line in lines)
    else:
        assert [line for line in lines if not LINE.match(line)] == []
