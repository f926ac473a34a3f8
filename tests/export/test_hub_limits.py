"""The client for the Hub: its bounds, the hosts that see the token, proxies, and downloads that continue."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import httpx2
import pytest
from fake_hub import COMMIT, Hub, serve
from hub_export import MODEL, TOKEN, fetched, refused, run_export
from infrs_export.hub import cache, http_client
from infrs_export.hub.errors import explained
from infrs_export.hub.patience import Patience

from infrs.errors import SourceError

WEIGHTS = "model.safetensors"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
DROP = 777  # bytes that arrive before the others drip
BOUNDS = """
from infrs_export.hub import download, patience, http_client
download.PAUSE = 0.0
http_client.ANSWER = 1.0
http_client.MEMORY_BYTES = 1 << 20
"""
Fault = Callable[[BaseHTTPRequestHandler, dict[str, str], bytes], None]


@pytest.fixture
def hub(tiny_copy: Callable[[str], Path]) -> Iterator[Hub]:
    with serve(Hub(MODEL, tiny_copy("hub"))) as running:
        yield running


def send(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], data: bytes) -> None:
    handler.send_response(status)
    for name, value in ({"Content-Length": str(len(data))} | headers).items():
        handler.send_header(name, value)
    handler.end_headers()
    with contextlib.suppress(OSError):
        handler.wfile.write(data)


def cut(handler: BaseHTTPRequestHandler, headers: dict[str, str], data: bytes) -> None:
    send(handler, 200, headers | {"Content-Length": str(len(data))}, data[: len(data) // 2])


def whole(handler: BaseHTTPRequestHandler, headers: dict[str, str], data: bytes) -> None:
    """Ignore the range that was asked for."""
    send(handler, 200, headers, data)


def of_another_range(handler: BaseHTTPRequestHandler, headers: dict[str, str], data: bytes) -> None:
    send(handler, 206, headers | {"Content-Range": f"bytes 9-{len(data) - 1}/{len(data)}"}, data[9:])


def broken(handler: BaseHTTPRequestHandler, headers: dict[str, str], data: bytes) -> None:
    send(handler, 503, headers, b"")


def in_its_head(handler: BaseHTTPRequestHandler, headers: dict[str, str], data: bytes) -> None:
    """Send one byte after another of a header, for longer than any test."""
    with contextlib.suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        for _ in range(100):
            handler.wfile.write(b"x")
            time.sleep(0.2)


def dripping(handler: BaseHTTPRequestHandler, headers: dict[str, str], data: bytes) -> None:
    send(handler, 200, headers | {"Content-Length": str(len(data))}, data[:DROP])
    with contextlib.suppress(OSError):
        for byte in data[DROP:]:
            time.sleep(0.1)
            handler.wfile.write(bytes([byte]))


def endless(handler: BaseHTTPRequestHandler, headers: dict[str, str], data: bytes) -> None:
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(b"[" * (1 << 16))


def one_after_another(hub: Hub, *faults: Fault) -> Fault:
    """Return a handler that answers with each of `faults` once, and removes itself with the last."""
    left = list(faults)

    def handle(handler: BaseHTTPRequestHandler, headers: dict[str, str], data: bytes) -> None:
        fault = left.pop(0)
        if not left:
            hub.faults.clear()
        fault(handler, headers, data)

    return handle


@pytest.mark.parametrize(
    ("faults", "ranged"),
    [((cut,), True), ((cut, whole), False), ((in_its_head, cut), True), ((broken, broken), False)],
    ids=["resumed", "from the start", "after a time-out", "after a server error"],
)
def test_a_broken_download_continues_in_the_same_run(
    hub: Hub, tmp_path: Path, faults: tuple[Fault, ...], ranged: bool
) -> None:
    hub.faults[WEIGHTS] = one_after_another(hub, *faults)
    said = fetched(hub.url, tmp_path, before=BOUNDS)
    assert said.splitlines()[-1] == "fetch 1 1"
    assert hub.faults == {}
    assert hub.ranges == ([f"bytes={(hub.folder / WEIGHTS).stat().st_size // 2}-"] if ranged else [])


@pytest.mark.parametrize("excess", [-100, 0, 100])
def test_what_an_earlier_run_left_is_used_unless_it_is_too_long(hub: Hub, tmp_path: Path, excess: int) -> None:
    data = (hub.folder / WEIGHTS).read_bytes()
    blobs = tmp_path / "home" / "hub" / f"models--{MODEL.replace('/', '--')}" / "blobs"
    blobs.mkdir(parents=True)
    left = data[:excess] if excess < 0 else data + bytes(excess)
    (blobs / f"{hashlib.sha256(data).hexdigest()}.incomplete").write_bytes(left)
    fetched(hub.url, tmp_path)
    assert hub.ranges == ([f"bytes={len(left)}-"] if excess < 0 else [])
    gets = [path for method, path, _ in hub.log if method == "GET" and path.endswith(WEIGHTS)]
    assert len(gets) == (0 if excess == 0 else 1)


def test_an_interrupt_ends_all_downloads_and_keeps_what_has_arrived(hub: Hub, tmp_path: Path) -> None:
    hub.faults[WEIGHTS] = dripping
    interrupt = f"""
import os, signal
from infrs_export.hub import download
add = download.Arrivals.add
def count(self, num_bytes):
    add(self, num_bytes)
    if num_bytes == {DROP}:
        os.kill(os.getpid(), signal.SIGINT)
download.Arrivals.add = count
"""
    done = run_export(hub.url, tmp_path, before=interrupt)
    assert (done.returncode, "Traceback" in done.stderr) == (130, False)
    (left,) = (tmp_path / "home").rglob("*.incomplete")
    size = left.stat().st_size
    assert size >= DROP
    hub.faults.clear()
    fetched(hub.url, tmp_path)
    assert hub.ranges == [f"bytes={size}-"]


@pytest.mark.parametrize(
    ("file", "fault", "words"),
    [
        (WEIGHTS, of_another_range, ("does not answer as a Hub does", "HF_ENDPOINT")),
        (WEIGHTS, in_its_head, ("does not answer", "HF_ENDPOINT")),
        (WEIGHTS, broken, ("answered 503",)),
        ("main", endless, ("longer than 1048576 bytes", "HF_ENDPOINT")),
    ],
    ids=["another range", "slow header", "server error", "endless list of files"],
)
def test_attempts_and_answers_in_memory_are_bounded(
    hub: Hub, tmp_path: Path, file: str, fault: Fault, words: tuple[str, ...]
) -> None:
    hub.faults[file] = fault
    refused(run_export(hub.url, tmp_path, before=BOUNDS), *words)
    assert len([path for _, path, _ in hub.log if path.endswith(file)]) <= 1 + 5  # HEAD, and attempts


def test_the_first_error_ends_all_downloads(hub: Hub, tmp_path: Path) -> None:
    (hub.folder / WEIGHTS).unlink()
    for shard in SHARDS:
        (hub.folder / shard).write_bytes(bytes(DROP + 1000))
    hub.faults[SHARDS[0]] = dripping
    hub.errors[f"/{MODEL}/resolve/{COMMIT}/{SHARDS[1]}"] = (403, {}, "")
    started = time.monotonic()
    refused(run_export(hub.url, tmp_path), "may not read")
    assert time.monotonic() - started < 60  # 100 s for all bytes


TOO_LONG = {
    "busy": (429, {"Retry-After": "900"}, ("fewer requests", "again in 900 seconds")),
    "rate limit": (429, {"RateLimit": '"api";r=0;t=901'}, ("fewer requests", "again in 901 seconds")),
    "maintenance": (503, {"Retry-After": "902"}, ("answers 503", "again in 902 seconds")),
}


@pytest.mark.parametrize("place", ["/api/models/", f"/{MODEL}/resolve/"])
@pytest.mark.parametrize("name", TOO_LONG)
def test_no_wait_longer_than_the_limit(hub: Hub, tmp_path: Path, place: str, name: str) -> None:
    """huggingface_hub alone would wait for it, five times."""
    status, headers, words = TOO_LONG[name]
    hub.errors[place] = (status, headers, "{}")
    started = time.monotonic()
    refused(run_export(hub.url, tmp_path), *words)
    assert time.monotonic() - started < 60


def test_no_request_leaves_for_another_machine_without_tls(hub: Hub, tmp_path: Path) -> None:
    hub.moved[WEIGHTS] = f"http://storage.example/{WEIGHTS}"
    refused(run_export(hub.url, tmp_path), "redirects to http://storage.example", "not https")


def test_neither_xet_nor_telemetry_is_used(hub: Hub, tmp_path: Path) -> None:
    """The library of Xet has no limits. It is installed here, and an import of it fails."""
    hub.more[WEIGHTS] = {"X-Xet-Hash": "ab" * 32, "X-Xet-Refresh-Route": f"{hub.url}/api/xet"}
    fetched(hub.url, tmp_path, before="import sys; sys.modules['hf_xet'] = None")
    assert all(MODEL in path for _, path, _ in hub.log)
    assert not (tmp_path / "home" / "hub" / "blobs").exists()


def test_a_blob_that_is_itself_a_link_is_checked_by_the_name_of_the_first(tmp_path: Path) -> None:
    data = b"weights"
    store, blob, file = tmp_path / ("ab" * 32), tmp_path / hashlib.sha256(data).hexdigest(), tmp_path / WEIGHTS
    store.write_bytes(data)
    blob.symlink_to(store.name)
    file.symlink_to(blob.name)
    assert cache.damage(file) == ""
    store.write_bytes(b"damaged")
    assert "SHA-256" in cache.damage(file)
    cache.remove(file)
    assert (file.is_symlink(), blob.is_symlink(), store.exists()) == (False, False, True)


def test_requests_go_through_the_proxy_of_the_environment(hub: Hub, tmp_path: Path) -> None:
    nowhere = "http://localhost:9"
    fetched(nowhere, tmp_path, http_proxy=hub.url)
    assert WEIGHTS in hub.requested()
    refused(
        run_export(nowhere, tmp_path / "other", http_proxy=hub.url, no_proxy="localhost"), nowhere, "cannot be reached"
    )
    refused(run_export(nowhere, tmp_path / "other", http_proxy="http://localhost:9"), nowhere, "cannot be reached")
    refused(
        run_export(nowhere, tmp_path / "other", all_proxy="socks5://user:secret@localhost:9"),
        "the proxy localhost:9",
        "HTTP proxy",
    )


def test_a_client_serves_on_after_it_is_closed(hub: Hub) -> None:
    """huggingface_hub closes it after a failed connection of any thread."""
    client = http_client.client(Patience(print))
    client.close()
    assert client.get(f"{hub.url}/api/models/{MODEL}").status_code == 200


def test_only_the_hub_sees_the_token(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if huggingface_hub itself sends it elsewhere."""
    with serve(Hub(MODEL, hub.folder)) as other:
        monkeypatch.setattr("infrs_export.hub.http_client.constants.ENDPOINT", hub.url)
        client = http_client.client(Patience(print))
        for url in (hub.url, other.url):
            client.get(f"{url}/api/models/{MODEL}", headers={"Authorization": f"Bearer {TOKEN}"})
        assert [header for _, _, header in other.log] == [None]
    assert [header for _, _, header in hub.log] == [f"Bearer {TOKEN}"]


def test_a_late_answer_gives_its_connection_back(monkeypatch: pytest.MonkeyPatch) -> None:
    arrive, closed = threading.Event(), threading.Event()

    class Answer(httpx2.Response):
        def close(self) -> None:
            closed.set()

    def late() -> httpx2.Response:
        arrive.wait()
        return Answer(200)

    monkeypatch.setattr(http_client, "ANSWER", 0.01)
    with pytest.raises(httpx2.ReadTimeout):
        http_client._in_time(late)
    assert not closed.is_set()
    arrive.set()
    assert closed.wait(60)


ANSWERS = {
    "a list": (200, {}, "[]", ("does not answer as a Hub does", "HF_ENDPOINT")),
    "no fields": (200, {}, "{}", ("does not answer as a Hub does", "HF_ENDPOINT")),
    "no commit": (200, {}, '{"id": "a", "siblings": []}', ("no safetensors",)),
    "a page": (200, {}, "<html>", ("does not answer as a Hub does", "HF_ENDPOINT")),
    "deep": (200, {}, "[" * 100_000, ("does not answer as a Hub does", "HF_ENDPOINT")),
    "error as a list": (500, {}, "[]", ("does not answer as a Hub does", "HF_ENDPOINT")),
    "disabled": (403, {"X-Error-Message": "Access to this resource is disabled."}, "", ("does not give out",)),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_of_no_hub_is_one_line(hub: Hub, tmp_path: Path, name: str) -> None:
    status, headers, text, words = ANSWERS[name]
    hub.errors["/api/models/"] = (status, headers, text)
    refused(run_export(hub.url, tmp_path), *words)


def test_a_commit_that_comes_meanwhile_is_not_mixed_with_the_one_before(hub: Hub, tmp_path: Path) -> None:
    headers = {"X-Repo-Commit": "beef" * 10, "ETag": '"1"'}
    hub.errors[f"/{MODEL}/resolve/main/"] = (200, headers, "{}")
    refused(run_export(hub.url, tmp_path), "main of tests/tiny-llama changed", "same command again")


def test_certificates_that_are_not_there_or_not_trusted(hub: Hub, tmp_path: Path) -> None:
    refused(run_export(hub.url, tmp_path, SSL_CERT_FILE=str(tmp_path / "absent")), "SSL_CERT_FILE", "No such file")
    failure = httpx2.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate")
    with pytest.raises(SourceError, match=r"certificate of .* is not trusted here"), explained(MODEL, "main"):
        raise failure


def test_a_token_that_cannot_be_had_is_one_line(hub: Hub, tmp_path: Path) -> None:
    refused(run_export(hub.url, tmp_path, HF_OIDC_RESOURCE="a"), MODEL, "OIDC")
