"""Downloads from a Hub that fails, sends wrong data, stalls or redirects, and from an incomplete cache."""

from __future__ import annotations

import contextlib
import gzip
import socketserver
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from fake_hub import COMMIT, Hub, serve
from hub_export import MODEL, TOKEN, fetched, refused, run_export, with_password
from infrs_export.hub.http_client import check_endpoint

from infrs.bundle.files import verify_bundle
from infrs.bundle.manifest import find_bundle
from infrs.errors import DiskFullError

WEIGHTS, CONFIG = "model.safetensors", "config.json"
TELLTALE = "import sys; sys.addaudithook(lambda event, _: event != 'socket.connect' or print('CONNECTED'))"
AT_ONCE = "from infrs_export.hub import download, http_client; download.PAUSE = 0.0; http_client.WINDOW = 1.0"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def hub(tiny_copy: Callable[[str], Path]) -> Iterator[Hub]:
    with serve(Hub(MODEL, tiny_copy("hub"))) as running:
        yield running


@pytest.fixture
def export(hub: Hub, tmp_path: Path) -> Run:
    return partial(run_export, hub.url, tmp_path, HF_TOKEN=TOKEN)


def send(handler: BaseHTTPRequestHandler, headers: dict[str, str], data: bytes, length: int | None = None) -> None:
    handler.send_response(200)
    for name, value in (headers | {"Content-Length": str(len(data) if length is None else length)}).items():
        handler.send_header(name, value)
    handler.end_headers()
    with contextlib.suppress(OSError):  # the client may have had enough
        handler.wfile.write(data)


def cut_in_the_middle(handler: BaseHTTPRequestHandler, headers: dict[str, str], data: bytes) -> None:
    send(handler, headers, data[: len(data) // 2], len(data))


def with_another_byte(handler: BaseHTTPRequestHandler, headers: dict[str, str], data: bytes) -> None:
    send(handler, headers, data[:-1] + bytes([data[-1] ^ 1]))


def shorter(handler: BaseHTTPRequestHandler, headers: dict[str, str], data: bytes) -> None:
    send(handler, headers, data[:-7])


def compressed(handler: BaseHTTPRequestHandler, headers: dict[str, str], data: bytes) -> None:
    """A thousand bytes for each that is sent."""
    send(handler, headers | {"Content-Encoding": "gzip"}, gzip.compress(bytes(64 << 20)))


def dripping(handler: BaseHTTPRequestHandler, headers: dict[str, str], data: bytes) -> None:
    send(handler, headers, b"", len(data))
    with contextlib.suppress(OSError):
        for start in range(100):
            handler.wfile.write(data[start : start + 1])
            handler.wfile.flush()
            time.sleep(0.3)


@pytest.mark.parametrize(
    ("file", "fault", "words"),
    [
        (WEIGHTS, cut_in_the_middle, ("broke off", "same command again")),
        (WEIGHTS, shorter, ("not as long as",)),
        (WEIGHTS, with_another_byte, (WEIGHTS, "SHA-256")),
        (CONFIG, with_another_byte, (CONFIG, "SHA-1")),
        (WEIGHTS, compressed, ("compressed",)),
        (WEIGHTS, dripping, ("too slowly", "same command again")),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_wrong_download_is_refused(
    hub: Hub, tmp_path: Path, file: str, fault: Callable[..., None], words: tuple[str, ...]
) -> None:
    """What is not whole is no bundle, and the next run, with a Hub that works, is not spoilt by what is left of it."""
    export = partial(run_export, hub.url, tmp_path)
    hub.faults[file] = fault
    refused(export(before=AT_ONCE), *words)
    left = sum(path.stat().st_size for path in (tmp_path / "home").rglob("*") if path.is_file())
    assert left < 8 << 20
    hub.faults.clear()
    fetched(hub.url, tmp_path)


@contextlib.contextmanager
def raw_hub(piece: bytes, pause: float) -> Iterator[str]:
    """The URL of a server that accepts every connection and sends `piece` again and again."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                while True:
                    self.request.sendall(piece)
                    time.sleep(pause)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize(
    ("piece", "bounds"),
    [(b"", "READ = 1.0"), (b"", "ANSWER = 1.0"), (b"H", "ANSWER = 1.0"), (b"HTTP/1.1 200 OK\r\n", "ANSWER = 1.0")],
    ids=["silent", "silent to the end", "in its first line", "in its head"],
)
def test_a_hub_that_never_answers(tmp_path: Path, piece: bytes, bounds: str) -> None:
    """It accepts connections, and sends nothing, or without end what is no answer yet."""
    with raw_hub(piece, 0.2) as url:
        started = time.monotonic()
        done = run_export(
            with_password(url), tmp_path, before=f"from infrs_export.hub import http_client; http_client.{bounds}"
        )
        refused(done, f"{url} does not answer", "HF_ENDPOINT", "HF_HUB_OFFLINE=1", "try again later")
        assert time.monotonic() - started < 30


def test_hub_with_a_slow_first_answer_times_out(hub: Hub, export: Run) -> None:
    hub.faults["main"] = dripping  # the last part of the path
    refused(export(before=AT_ONCE), "too slowly")


def test_hub_with_an_incomplete_first_answer_times_out(hub: Hub, export: Run) -> None:
    hub.errors["/api/models/"] = (200, {"Content-Length": "1000"}, "{")
    before = "from infrs_export.hub import http_client; http_client.READ = 1.0"
    refused(export(before=before), "again later")


def test_a_file_that_was_damaged_once_is_fetched_again(hub: Hub, tmp_path: Path) -> None:
    def once(handler: BaseHTTPRequestHandler, headers: dict[str, str], data: bytes) -> None:
        hub.faults.clear()
        with_another_byte(handler, headers, data)

    hub.faults[WEIGHTS] = once
    fetched(hub.url, tmp_path)
    assert hub.faults == {}


def test_a_file_that_changes_while_it_is_fetched_is_one_or_the_other(hub: Hub, export: Run, tmp_path: Path) -> None:
    """Its tag changes with it, so the rest of the new one is not put behind the beginning of the old."""
    hub.faults[WEIGHTS] = cut_in_the_middle
    refused(export(before=AT_ONCE), "broke off")
    hub.faults.clear()
    (hub.folder / WEIGHTS).write_bytes((hub.folder / WEIGHTS).read_bytes()[:-4] + bytes(4))
    fetched(hub.url, tmp_path)
    (kept,) = (tmp_path / "home").rglob(f"snapshots/*/{WEIGHTS}")
    assert kept.read_bytes() == (hub.folder / WEIGHTS).read_bytes()


def test_interrupted_download_resumes(hub: Hub, export: Run, tmp_path: Path) -> None:
    hub.faults[WEIGHTS] = cut_in_the_middle
    refused(export(before=AT_ONCE), "broke off")
    hub.faults.clear()
    fetched(hub.url, tmp_path)
    size = (hub.folder / WEIGHTS).stat().st_size
    assert hub.ranges == [f"bytes={size // 2}-"]


def test_the_token_stays_with_the_hub(hub: Hub, tmp_path: Path) -> None:
    """The real one sends weights on to storage elsewhere."""
    with serve(Hub(MODEL, hub.folder)) as storage:
        hub.moved[WEIGHTS] = f"{storage.url}/{MODEL}/resolve/{COMMIT}/{WEIGHTS}"
        fetched(hub.url, tmp_path, HF_TOKEN=TOKEN)
        assert {path for _, path, _ in storage.log} == {f"/{MODEL}/resolve/{COMMIT}/{WEIGHTS}"}
        assert {header for _, _, header in storage.log} == {None}
    assert {header for _, _, header in hub.log} == {f"Bearer {TOKEN}"}


def test_the_token_stays_with_the_hub_that_sends_everything_elsewhere(hub: Hub, export: Run) -> None:
    with serve(Hub(MODEL, hub.folder)) as other:
        hub.errors["/api/models/"] = (302, {"Location": f"{other.url}/elsewhere"}, "")
        refused(export(), MODEL)
        assert {header for _, _, header in other.log} == {None}


@pytest.mark.parametrize("place", ["/api/models/", f"/{MODEL}/resolve/"])
@pytest.mark.parametrize("elsewhere", [False, True], ids=["relative", "absolute"])
def test_a_circle_of_redirects(hub: Hub, export: Run, place: str, elsewhere: bool) -> None:
    target = f"{place}again"
    hub.errors[place] = (302, {"Location": hub.url + target if elsewhere else target, "X-Repo-Commit": COMMIT}, "")
    if elsewhere and place != "/api/models/":
        hub.errors[place][1].update({"ETag": '"1"', "Content-Length": "0", "X-Linked-Size": "9"})
    refused(export(HF_ENDPOINT=with_password(hub.url)), "in a circle")


ANSWERS = {
    "token": (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, ("token", "HF_TOKEN")),
    "gated": (403, {"X-Error-Code": "GatedRepo"}, ("gated", "accept its licence at", "HF_TOKEN")),
    "forbidden": (403, {}, ("may not read",)),
    "absent": (404, {"X-Error-Code": "RepoNotFound"}, ("no model tests/tiny-llama", "HF_TOKEN")),
    "revision": (404, {"X-Error-Code": "RevisionNotFound"}, ("no revision", "--revision")),
    "file": (404, {"X-Error-Code": "EntryNotFound"}, (CONFIG, "is not there")),
    "busy": (429, {"Retry-After": "900"}, ("again in 900 seconds",)),
    "broken": (500, {}, ("answered 500",)),
    "no hub": (200, {}, ("HF_ENDPOINT",)),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_refusals_of_the_files_alone(hub: Hub, export: Run, name: str) -> None:
    """The Hub shows everybody what a gated model consists of."""
    status, headers, words = ANSWERS[name]
    hub.errors[f"/{MODEL}/resolve/"] = (status, headers, "")
    refused(export(before="import time; time.sleep = lambda seconds: None", HF_ENDPOINT=with_password(hub.url)), *words)


def test_too_large_file_is_not_fetched(hub: Hub, export: Run) -> None:
    with (hub.folder / CONFIG).open("r+b") as file:
        file.truncate(2 << 30)
    refused(export(), CONFIG, "larger than")
    assert hub.requested() == set()


def test_a_model_that_is_too_large_is_not_fetched(hub: Hub, export: Run, tmp_path: Path) -> None:
    fetched(hub.url, tmp_path / "before")
    total = sum((hub.folder / name).stat().st_size for name in hub.requested())
    hub.log.clear()
    refused(export("--max-model-bytes", str(total - 1)), f"{total} bytes", f"--max-model-bytes {total}")
    assert hub.requested() == set()
    fetched(hub.url, tmp_path, max_bytes=total)


@pytest.mark.parametrize("place", ["/api/models/", f"/{MODEL}/resolve/"])
def test_a_hub_that_asks_to_wait_is_waited_for(hub: Hub, tmp_path: Path, place: str) -> None:
    """So many seconds or until a time, and each wait has a line that says so."""
    hub.busy[place] = ["2", formatdate(time.time() + 4, usegmt=True)]
    started = time.monotonic()
    said = fetched(hub.url, tmp_path)
    assert time.monotonic() - started >= 2
    assert hub.busy[place] == []
    host = hub.url.removeprefix("http://")
    assert f"{host} asks for fewer requests; continuing in 2 s\n" in said
    assert said.count("asks for fewer requests") == 2


@pytest.mark.parametrize("header", [{"Retry-After": "4"}, {"Retry-After": "soon"}, {}])
def test_a_hub_that_always_asks_to_wait_is_not_waited_for_without_end(
    hub: Hub, export: Run, header: dict[str, str]
) -> None:
    hub.errors["/api/models/"] = (429, header, "")
    started = time.monotonic()
    refused(export(before="from infrs_export.hub import patience; patience.LONGEST_WAIT = 5.0"), "fewer requests")
    assert time.monotonic() - started < 60
    assert len(hub.log) == (2 if header.get("Retry-After") == "4" else 1)


@pytest.mark.parametrize(
    ("endpoint", "host"),
    [
        ("https://huggingface.co", "huggingface.co"),
        ("https://user:secret@hub.example:8443/path", "hub.example:8443"),
        ("http://127.0.0.1:80/", "127.0.0.1:80"),
    ],
)
def test_the_manifest_names_the_host_of_the_hub_alone(endpoint: str, host: str) -> None:
    assert check_endpoint(endpoint) == host


def test_a_hub_without_tls_is_this_machine(export: Run) -> None:
    refused(export(HF_ENDPOINT=with_password("http://hub.example")), "HF_ENDPOINT is http://hub.example", "https")


def test_invalid_hub_name_is_refused(export: Run) -> None:
    refused(export(model="tests/tiny--llama.git"), "tests/tiny--llama.git", "Hub")


@pytest.mark.parametrize("file", [WEIGHTS, CONFIG, "tokenizer.json"])
def test_offline_with_a_part_of_the_files(hub: Hub, export: Run, tmp_path: Path, file: str) -> None:
    """No connection is made."""
    fetched(hub.url, tmp_path)
    (path,) = (tmp_path / "home").rglob(f"snapshots/*/{file}")
    path.unlink()
    refused(export(before=TELLTALE, HF_HUB_OFFLINE="1"), file, "HF_HUB_OFFLINE", "run the same command once without it")


@pytest.mark.slow
def test_offline_with_all_the_files(hub: Hub, export: Run, tmp_path: Path) -> None:
    fetched(hub.url, tmp_path)
    hub.log.clear()
    done = export(before=TELLTALE, HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert "CONNECTED" not in done.stdout
    assert hub.log == []
    verify_bundle(find_bundle(tmp_path / "cache", MODEL, "main", "auto"))


def test_a_full_disk_below_hugging_faces_cache(export: Run, tmp_path: Path) -> None:
    before = """
import errno, sys
def full(event, arguments):
    if event == "open" and str(arguments[0]).endswith(".incomplete"):
        raise OSError(errno.ENOSPC, "No space left on device", str(arguments[0]))
sys.addaudithook(full)
"""
    refused(export(before=before), str(tmp_path / "home"), "HF_HOME", code=DiskFullError.exit_code)
