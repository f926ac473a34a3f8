"""Access control: keys and host names. test_cors.py tests web pages."""

import ast
import contextlib
import http.client
import inspect
import json
import logging
import math
import os
import random
import re
import signal
import statistics
import string
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_process import JSON, MODEL, FakeServer, chat_body, fake_server
from sanic import Sanic

from infrs.api.anthropic import errors as anthropic_errors
from infrs.api.common.errors import AuthenticationError
from infrs.api.ollama import errors as ollama_errors
from infrs.config.settings import ServerSettings, Settings
from infrs.errors import ConfigError
from infrs.http import auth
from infrs.http.auth import Keys, load_keys

KEYS = ["first-key-0123456789", "second-key-0123456789"]
OPEN = {"/health", "/ready"}
PAGE = {"/", "/web/fake%2Fwords"}  # the files of the web page, see tests/web


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def guarded() -> Iterator[FakeServer]:
    with fake_server(server={"access_log": False}, keys=",".join(KEYS)) as running:
        yield running


def routes(app: Sanic[Any, Any]) -> list[tuple[str, str]]:
    """Return every method and path of an app."""
    found = [
        (method, "/" + re.sub(r"<\w+:\w+>", MODEL.replace("/", "%2F"), route.path.replace("<model_id:path>", MODEL)))
        for route in app.router.routes
        for method in sorted(route.methods)
    ]
    assert len(found) > 10
    return found


WRONG: dict[str, tuple[str, dict[str, str]]] = {
    "none": ("missing_api_key", {}),
    "empty": ("missing_api_key", {"authorization": ""}),
    "no key": ("missing_api_key", {"authorization": "Bearer"}),
    "a blank for a key": ("missing_api_key", {"authorization": "Bearer "}),
    "another scheme": ("missing_api_key", {"authorization": f"Basic {KEYS[0]}"}),
    "no scheme": ("missing_api_key", {"authorization": KEYS[0]}),
    "another header": ("missing_api_key", {"api-key": KEYS[0]}),
    "wrong": ("invalid_api_key", bearer("wrong-key-0123456789")),
    "a part": ("invalid_api_key", bearer(KEYS[0][:-1])),
    "more": ("invalid_api_key", bearer(KEYS[0] + "0")),
    "capitals": ("invalid_api_key", bearer(KEYS[0].upper())),
    "two blanks": ("invalid_api_key", {"authorization": f"Bearer  {KEYS[0]}"}),
    "both keys": ("invalid_api_key", bearer(",".join(KEYS))),
    "long": ("invalid_api_key", bearer("x" * 7000)),
}


@pytest.mark.parametrize("how", WRONG)
def test_every_route_but_two_requires_a_key(guarded: FakeServer, blank_app: Sanic[Any, Any], how: str) -> None:
    code, headers = WRONG[how]
    for method, path in routes(blank_app):
        answer = guarded.request(method, path, b"{}" if method == "POST" else None, JSON | headers)
        if path in OPEN:
            assert answer.status == 200
            continue
        if path in PAGE:
            # to a client that is no browser; no file has this name
            assert answer.status == (200 if (method, path) == ("HEAD", "/") else 404)
            continue
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        if path in anthropic_errors.PATHS:
            error = answer.json["error"]
            assert (error["type"], error["details"]["error_code"]) == ("authentication_error", code)
        elif path.startswith(ollama_errors.PREFIX):
            assert method == "HEAD" or answer.json.keys() == {"error"}
        elif method != "HEAD":
            assert answer.error == (401, "authentication_error", None, code)


@pytest.mark.parametrize(
    "path",
    ["/nope", "/health/", "//health", "/Health", "/health%2f", "/x/../health", "/ready/x", "/v1/models?key=" + KEYS[0]],
)
def test_no_spelling_of_a_path_avoids_the_key(guarded: FakeServer, path: str) -> None:
    assert guarded.get(path).error == (401, "authentication_error", None, "missing_api_key")
    assert guarded.request("POST", "/health", b"{}").error[0] == 401


def test_only_a_single_valid_authorization_header_is_accepted(guarded: FakeServer) -> None:
    def status(*authorizations: bytes) -> bytes:
        lines = [b"GET /v1/models HTTP/1.1", b"Host: localhost", b"Connection: close"]
        return guarded.raw(b"\r\n".join([*lines, *(b"Authorization: " + a for a in authorizations), b"", b""]))[9:12]

    good = b"Bearer " + KEYS[0].encode()
    assert status(good) == b"200"
    assert status(good, good) == b"401"
    assert status(b"Bearer wrong-key", good) == b"401"
    assert status(good + b" ") == b"200"  # optional white space, no part of the value
    assert status(good + b" x") == b"401"
    assert status("Bearer ключ-ключ-ключ".encode()) == b"401"
    assert status(b"Bearer \xff\xfe\xfd-not-utf-8") == b"401"
    assert status(b"Bearer " + b"x" * 100_000) == b"431"


@pytest.mark.parametrize("key", KEYS)
def test_each_key_is_accepted(guarded: FakeServer, key: str) -> None:
    assert guarded.request("GET", "/v1/models", headers=bearer(key)).status == 200
    assert guarded.request("GET", "/v1/models", headers={"authorization": f"bearer {key}"}).status == 200
    answer = guarded.request("POST", "/v1/chat/completions", chat_body(max_tokens=1), JSON | bearer(key))
    assert answer.status == 200


def test_a_refusal_is_quick_and_reads_no_body(guarded: FakeServer) -> None:
    seconds = []
    for _ in range(50):
        connection = http.client.HTTPConnection("127.0.0.1", guarded.port, timeout=5)
        started = time.perf_counter()
        connection.putrequest("POST", "/v1/chat/completions")
        connection.putheader("content-length", "4000000")
        connection.endheaders()
        assert connection.getresponse().status == 401
        seconds.append(time.perf_counter() - started)
        connection.close()
    assert sorted(seconds)[len(seconds) // 2] < 0.2  # an upload's 4 MB would take longer to be waited for


def test_keys_are_compared_only_by_compare_digest() -> None:
    """The only comparison of secrets in the source is `compare_digest`, and it runs for every key."""
    tree = ast.parse(inspect.getsource(Keys))
    compared = [node for node in ast.walk(tree) if isinstance(node, ast.Compare)]
    assert {ast.unparse(node) for node in compared} == {"scheme.lower() != 'bearer'", "len(authorization) > 1"}
    assert "compare_digest" in inspect.getsource(Keys)
    assert not any(key in repr(vars(Keys(KEYS))) for key in KEYS)


@pytest.mark.nightly("constant time")
@pytest.mark.serial
def test_the_time_of_a_refusal_reveals_nothing_about_the_key(full: bool, figure: Callable[[str], None]) -> None:
    """Wrong keys with no correct character and with one wrong character take the same time, by Student's t.

    One key is not enough: Welch's t then shows where strings lie in memory. Of two keys with no correct character, one
    takes up to 15 ns longer while the process lives. Over many keys this averages out.
    """
    num_keys, count = 400 if full else 80, 50
    choose = random.Random(2)

    def lead() -> float:
        """Return by how many ns a key without a correct character takes longer than one with one wrong character."""
        key = "".join(choose.choices(string.ascii_lowercase, k=32))
        keys, wrong = Keys([key]), ("X" * 32, key[:-1] + "X")
        nanoseconds: list[list[int]] = [[], []]
        for which in choose.sample([0, 1], counts=[count, count], k=2 * count):
            header = [f"Bearer {wrong[which]}"]
            started = time.perf_counter_ns()
            with contextlib.suppress(AuthenticationError):
                keys.tenant(header)
            nanoseconds[which].append(time.perf_counter_ns() - started)
        # Without what the machine was busy with.
        none, most = (statistics.mean(sorted(taken)[: count * 9 // 10]) for taken in nanoseconds)
        return none - most

    def student() -> float:
        leads = [lead() for _ in range(num_keys)]
        return abs(statistics.mean(leads)) / (statistics.stdev(leads) / math.sqrt(num_keys))

    # A comparison that leaks does so every time; a busy machine does not.
    t = min(student() for _ in range(5))
    assert t < 4.5
    figure(f"{num_keys * count:,} of each, over {num_keys} keys, least of five: |t| = {t:.2f}, 4.5 at the most")


def test_each_key_has_its_own_tenant_without_its_text() -> None:
    keys = Keys(KEYS)
    first, second = (keys.tenant([f"Bearer {key}"]) for key in KEYS)
    assert first != second
    assert KEYS[0] not in first
    assert keys.tenant([f"Bearer {KEYS[0]}"]) == first
    assert Keys(()).tenant([]) == Keys(()).tenant(["Bearer anything"]) == ""


def test_no_prompt_is_reused_across_keys() -> None:
    """With the real engine: one key's prompts never reuse the cached tokens of another key."""
    with fake_server(keys=",".join(KEYS), engine="synthetic", rows=2) as server:

        def cached(key: str) -> int:
            body = chat_body("a long and common beginning of a prompt", max_tokens=1)
            answer = server.request("POST", "/v1/chat/completions", body, JSON | bearer(key))
            return int(answer.json["usage"]["prompt_tokens_details"]["cached_tokens"])

        assert cached(KEYS[0]) == 0
        assert cached(KEYS[0]) > 0
        assert cached(KEYS[1]) == 0
        assert cached(KEYS[1]) > 0


def write(path: Path, text: str, mode: int = 0o600) -> ServerSettings:
    path.write_text(text)
    path.chmod(mode)
    return ServerSettings(api_keys_file=str(path))


def test_keys_are_read_from_a_file_and_the_environment(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = write(tmp_path / "keys", f"# the team's\n{KEYS[0]}  # Ann\n\n{KEYS[1]}\n")
    keys = load_keys(settings, {"INFRS_API_KEYS": " third-key , fourth-key,"})
    for key in (*KEYS, "third-key", "fourth-key"):
        assert keys.tenant([f"Bearer {key}"])
    assert caplog.records == []
    with caplog.at_level(logging.WARNING):
        write(tmp_path / "keys", KEYS[0], 0o644)
        load_keys(settings, {})
    assert "chmod 600" in caplog.text
    assert KEYS[0] not in caplog.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "holds no key"),
        ("# none\n", "holds no key"),
        ("short", "line 1: a key"),
        ("good-key-1\nbad key", "line 2: a key"),
    ],
)
def test_an_invalid_file_of_keys_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected) as caught:
        load_keys(write(tmp_path / "keys", text), {})
    assert "bad key" not in str(caught.value)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_keys(ServerSettings(api_keys_file=str(tmp_path / "none")), {})
    (tmp_path / "keys").write_bytes(b"caf\xe9-caf\xe9")
    with pytest.raises(ConfigError, match="is not text"):
        load_keys(ServerSettings(api_keys_file=str(tmp_path / "keys")), {})


@pytest.mark.parametrize(
    ("text", "message", "held"),
    [
        (f"{KEYS[1]}\n", "reread the API keys", KEYS[1]),
        ("", "holds no key", KEYS[0]),
        ("short\n", "line 1: a key is not allowed", KEYS[0]),
        (None, "cannot be read", KEYS[0]),
    ],
)
def test_keys_are_reread(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str | None, message: str, held: str
) -> None:
    """An invalid file leaves the keys as they are, and the log says why."""
    settings = write(tmp_path / "keys", f"{KEYS[0]}\n")
    keys = load_keys(settings, {})
    if text is None:
        (tmp_path / "keys").unlink()
    else:
        write(tmp_path / "keys", text)
    with caplog.at_level("INFO"):
        auth.reread_keys(keys, settings)
    (record,) = caplog.records
    assert message in record.message
    for key in KEYS:
        if key == held:
            assert keys.tenant([f"Bearer {key}"])
        else:
            with pytest.raises(AuthenticationError):
                keys.tenant([f"Bearer {key}"])


def test_a_server_rereads_its_keys_on_sighup(tmp_path: Path) -> None:
    settings = write(tmp_path / "keys", f"{KEYS[0]}\n")
    with fake_server(server={"api_keys_file": settings.api_keys_file}) as server:

        def accepts(key: str) -> bool:
            return server.request("GET", "/v1/models", None, bearer(key)).status == 200

        assert [accepts(key) for key in KEYS] == [True, False]
        write(tmp_path / "keys", f"{KEYS[1]}\n")
        server.process.send_signal(signal.SIGHUP)
        server.wait_until(lambda: accepts(KEYS[1]))
        assert not accepts(KEYS[0])


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])  # noqa: S104
def test_a_public_host_requires_a_key(host: str) -> None:
    with pytest.raises(ConfigError, match="no API key is set"):
        load_keys(ServerSettings(host=host), {})
    assert load_keys(ServerSettings(host=host), {"INFRS_API_KEYS": KEYS[0]})
    assert not load_keys(ServerSettings(host=host, allow_unauthenticated=True), {})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_a_loopback_host_requires_no_key(host: str) -> None:
    assert not load_keys(ServerSettings(host=host), {})


def test_the_command_refuses_a_public_host_without_a_key(tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("INFRS_")}
    command = [sys.executable, "-m", "infrs", "--host", "0.0.0.0", "--port", "0", "--bundle", "none"]  # noqa: S104
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("infrs-serve: server.host 0.0.0.0 can be reached from beyond this machine")
    assert done.stderr.count("\n") == 1


def test_only_allowed_hosts_are_answered() -> None:

    def status(server: FakeServer, host: str) -> int:
        return server.request("GET", "/health", headers={"host": host}).status

    with fake_server(server={"allowed_hosts": "infrs.example, other.example"}) as server:
        own = ("localhost", "127.0.0.1:1", "[::1]", "host.docker.internal:80", "Host.Containers.Internal")
        for host in ("infrs.example", "INFRS.example:80", "other.example", *own):
            assert status(server, host) == 200
        for host in (
            "evil.example",
            "infrs.example.evil.example",
            "xinfrs.example",
            "localhost.",
            "host.docker.internal.evil.example",
            "127.0.0.1.nip.example",
        ):
            assert status(server, host) == 403
    with fake_server(server={"host": "0.0.0.0", "allow_unauthenticated": True}) as server:  # noqa: S104
        assert status(server, "whatever.example") == 200


def test_keys_are_not_among_the_settings() -> None:
    assert auth.KEYS_VARIABLE == "INFRS_API_KEYS"
    assert "api_keys" not in json.dumps(Settings().model_dump(mode="json")).replace("api_keys_file", "")
