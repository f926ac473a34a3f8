"""The page's files over HTTP: headers, caching, guards, size; and that the wheel holds them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_process import FakeServer, fake_server
from setuptools.dist import Distribution

from infrs.web.files import FOLDER, INDEX, StaticFile, static_files

KEY = "first-key-0123456789"
BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
NAMES = sorted(static_files().keys() - {INDEX})
MOST_BYTES = 300_000
POLICY = {
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "img-src 'self' data:",
    "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
}  # fmt: skip


@pytest.fixture(scope="module")
def guarded() -> Iterator[FakeServer]:
    with fake_server(keys=KEY) as running:
        yield running


@pytest.mark.parametrize("path", ["/", *(f"/web/{name}" for name in NAMES)])
def test_each_file_is_served_without_a_key_under_a_strict_policy(guarded: FakeServer, path: str) -> None:
    answer = guarded.request("GET", path, headers=BROWSER)
    assert answer.status == 200
    assert set(answer.headers["content-security-policy"].split("; ")) == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-cache"
    expected = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".txt": "text/plain"}
    kind = answer.headers["content-type"].partition(";")[0]
    assert kind == expected.get(Path(path).suffix, "text/html")
    same = guarded.request("GET", path, headers=BROWSER | {"if-none-match": answer.headers["etag"]})
    assert (same.status, same.body, same.headers["etag"]) == (304, b"", answer.headers["etag"])
    head = guarded.request("HEAD", path, headers=BROWSER)
    assert (head.status, head.headers["content-length"]) == (200, str(len(answer.body)))


@pytest.mark.parametrize("accept", [None, "*/*", "application/json"])
def test_a_client_other_than_a_browser_gets_404_at_the_root(guarded: FakeServer, accept: str | None) -> None:
    answer = guarded.request("GET", "/", headers={"accept": accept} if accept else {})
    assert answer.error == (404, "invalid_request_error", None, "not_found")


@pytest.mark.parametrize(
    "path",
    ["/web", "/web/", "/web/nope.js", "/web/index.html", "/web/../files.py", "/web/%2e%2e/files.py", "/web//main.js"],
)
def test_no_other_path_is_a_file_of_the_page(guarded: FakeServer, path: str) -> None:
    authorized = BROWSER | {"authorization": f"Bearer {KEY}"}
    assert guarded.request("GET", path, headers=authorized).error[0] == 404


def test_another_method_needs_the_key(guarded: FakeServer) -> None:
    for path in ("/", "/web/main.js"):
        assert guarded.request("POST", path, b"{}").error[0] == 401


VISIT = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", VISIT, 200),
        ("/", VISIT | {"sec-fetch-dest": "iframe"}, 403),
        ("/", VISIT | {"origin": "https://page.example"}, 403),
        ("/", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
        ("/", {"origin": "https://page.example"}, 403),
        ("/", {"host": "page.example"}, 403),
        ("/", {"sec-fetch-site": "same-origin"}, 200),
        ("/web/main.js", VISIT, 403),
        ("/web/main.js", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
        ("/web/main.js", {"sec-fetch-site": "same-origin", "sec-fetch-dest": "script"}, 200),
        ("/v1/models", VISIT, 403),
    ],
)
def test_other_sites_may_only_link_to_the_page(
    guarded: FakeServer, path: str, headers: dict[str, str], status: int
) -> None:
    assert guarded.request("GET", path, headers=BROWSER | headers).status == status


def test_the_page_can_be_switched_off() -> None:
    with fake_server(server={"web": False}) as server:
        for path in ("/", "/web/main.js"):
            answer = server.request("GET", path, headers=BROWSER)
            assert answer.error == (404, "invalid_request_error", None, "not_found")


def test_the_page_is_served_while_the_model_loads() -> None:
    with fake_server(load_seconds=30, wait_ready=False) as server:
        assert server.request("GET", "/", headers=BROWSER).status == 200
        assert server.get("/ready").status == 503


@pytest.mark.parametrize(
    ("given", "matches"),
    [("", False), ('"a"', True), ('W/"a"', True), ('"b", "a"', True), ("*", True), ('"b"', False), ("a", False)],
)
def test_if_none_match_names_a_file(given: str, *, matches: bool) -> None:
    assert StaticFile(b"", "", '"a"').is_match(given) is matches


def test_the_page_is_small() -> None:
    assert sum(len(file.content) for file in static_files().values()) <= MOST_BYTES


def test_the_page_has_no_inline_code_and_names_no_other_host() -> None:
    own = {name: file.content.decode() for name, file in static_files().items() if not name.startswith("vendor/")}
    index = own[INDEX]
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", index)
    assert re.findall(r"<script(?![^>]* src=)", index) == []
    hosts = {name: re.findall(r"(?:https?:)?//[a-z][\w-]*\.\w+[^\s\"'`]*", text) for name, text in own.items()}
    names = {address for found in hosts.values() for address in found}
    assert names == {"http://www.w3.org/2000/svg"}  # the name of a format, which no browser loads


def test_the_wheel_has_every_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER.parents[2])
    distribution = Distribution()
    distribution.parse_config_files()
    build = distribution.get_command_obj("build_py")
    build.ensure_finalized()
    packed = {package: (source, names) for package, source, _, names in build.data_files}
    source, names = packed["infrs.web"]
    assert {Path(source, name).resolve().relative_to(FOLDER).as_posix() for name in names} == static_files().keys()


def test_every_file_that_the_page_names_exists() -> None:
    files = static_files()
    named = re.findall(r"(?:src|href)=\"web/([^\"]+)\"", files[INDEX].content.decode())
    assert named
    for name in (name for name in files if name.endswith(".js") and not name.startswith("vendor/")):
        imports = r"from \"(\.[^\"]+)\"|import \"(\.[^\"]+)\"|new URL\(\"(\w+\.js)\""
        for target in re.findall(imports, files[name].content.decode()):
            path = (FOLDER / name).parent / "".join(target)
            named.append(path.resolve().relative_to(FOLDER).as_posix())
    assert set(named) <= files.keys()
    assert {name for name in files if name.endswith((".js", ".css"))} <= set(named)


def test_files_are_short() -> None:
    lengths = {name: file.content.count(b"\n") for name, file in static_files().items() if "vendor/" not in name}
    assert {name: length for name, length in lengths.items() if length > 200} == {}


@pytest.mark.parametrize("library", ["marked", "purify"])
def test_a_vendored_library_names_its_version_and_has_its_licence(library: str) -> None:
    [source] = [name for name in NAMES if name.startswith(f"vendor/{library}") and name.endswith(".js")]
    head = static_files()[source].content[:400].decode()
    assert re.search(r"(?:marked v|DOMPurify )\d+\.\d+\.\d+", head)
    assert len(static_files()[f"vendor/{library}-LICENSE.txt"].content) > 2000
