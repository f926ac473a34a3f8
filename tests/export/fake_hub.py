"""A Hub on the loopback interface that speaks as much of the protocol as huggingface_hub needs."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" * 6 + "0123"
Fault = Callable[[BaseHTTPRequestHandler, dict[str, str], bytes], None]  # answers with those headers and that content


@dataclass
class Hub:
    """Serves `folder` as `model` at `COMMIT`.

    errors: answers by path prefix, as (status, headers, body). faults: by the name of a file, the handler of its GETs.
    busy: by path prefix, the Retry-After of each refused request before one is answered.
    moved: by the name of a file, where every request for it is sent on to. more: by the name of a file, more headers.
    """

    model: str
    folder: Path
    url: str = ""
    errors: dict[str, tuple[int, dict[str, str], str]] = field(default_factory=dict)
    busy: dict[str, list[str]] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    more: dict[str, dict[str, str]] = field(default_factory=dict)
    ranges: list[str] = field(default_factory=list)
    log: list[tuple[str, str, str | None]] = field(default_factory=list)  # method, path, Authorization

    def requested(self) -> set[str]:
        """Names of the files that were asked for, from the repository's root."""
        return {path.partition("/resolve/")[2].partition("/")[2] for _, path, _ in self.log if "/resolve/" in path}


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def log_message(self, *arguments: object) -> None:
            pass

        def _answer(self, *, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.log.append((self.command, path, self.headers.get("Authorization")))
            status, headers, data = _answer_to(hub, path)
            name = path.rpartition("/")[2]
            if body and status == 200 and name in hub.faults:
                self.close_connection = True
                hub.faults[name](self, headers, data)
                return
            if begin := self.headers.get("Range", "").removeprefix("bytes=").removesuffix("-"):
                hub.ranges.append(self.headers["Range"])
                headers |= {"Content-Range": f"bytes {begin}-{len(data) - 1}/{len(data)}"}
                status, data = 206, data[int(begin) :]
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(data))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def _answer_to(hub: Hub, path: str) -> tuple[int, dict[str, str], bytes]:
    for prefix, waits in hub.busy.items():
        if path.startswith(prefix) and waits:
            return 429, {"Retry-After": waits.pop(0)}, b""
    for prefix, (status, headers, text) in hub.errors.items():
        if path.startswith(prefix):
            return status, dict(headers), text.encode()
    return _find(hub, path)


def _find(hub: Hub, path: str) -> tuple[int, dict[str, str], bytes]:
    names = sorted(file.relative_to(hub.folder).as_posix() for file in hub.folder.rglob("*") if file.is_file())
    api = f"/api/models/{hub.model}"
    if path == api or path.startswith(f"{api}/revision/"):
        revision = path.rpartition("/revision/")[2] if "/revision/" in path else "main"
        if revision not in ("main", COMMIT):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
        sizes = {name: (hub.folder / name).stat().st_size for name in names}
        siblings = [{"rfilename": name, "size": size} for name, size in sizes.items()]
        info = {"id": hub.model, "sha": COMMIT, "siblings": siblings}
        return 200, {"Content-Type": "application/json"}, json.dumps(info).encode()
    revision, _, name = path.removeprefix(f"/{hub.model}/resolve/").partition("/")
    if revision in ("main", COMMIT) and name:
        file = hub.folder / name
        if name not in names:
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        if file.name in hub.moved:
            return 302, {"Location": hub.moved[file.name], "X-Repo-Commit": COMMIT} | _tag(file), b""
        data = file.read_bytes()
        return 200, _tag(file) | {"X-Repo-Commit": COMMIT} | hub.more.get(file.name, {}), data
    return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"


def _tag(file: Path) -> dict[str, str]:
    """What the Hub tags contents with: weights by their SHA-256, anything else by the hash that git gives it."""
    data = file.read_bytes()
    git = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False)
    tag = hashlib.sha256(data) if file.suffix == ".safetensors" else git
    linked = {"X-Linked-Size": str(len(data)), "X-Linked-ETag": f'"{tag.hexdigest()}"'}
    return {"ETag": f'"{tag.hexdigest()}"'} | (linked if file.suffix == ".safetensors" else {})
