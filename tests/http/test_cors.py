"""Web pages may call the server only from the allowed origins."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from fake_process import JSON, FakeServer, chat_body, fake_server
from sanic import Request as SanicRequest
from sanic.compat import Header

from infrs.api.common.errors import OriginNotAllowedError
from infrs.config.settings import ServerSettings
from infrs.errors import ConfigError
from infrs.http import cors

OWN, PAGE = "http://127.0.0.1:80", "https://page.example"


@pytest.fixture(scope="module")
def guarded() -> Iterator[FakeServer]:
    with fake_server(keys="first-key-0123456789", server={"cors_origins": PAGE}) as running:
        yield running


def test_no_page_may_call_by_default(server: FakeServer) -> None:
    for method, path in (("GET", "/v1/models"), ("OPTIONS", "/v1/chat/completions")):
        answer = server.request(method, path, headers={"origin": "https://page.example"})
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert answer.error == (403, "invalid_request_error", "origin", "origin_not_allowed")


@pytest.mark.parametrize(
    ("headers", "allowed", "passes"),
    [
        ({}, "", True),
        ({"origin": "http://127.0.0.1"}, "", True),
        ({"origin": OWN}, "", True),
        ({"origin": "https://127.0.0.1"}, "", True),  # a proxy ends TLS
        ({"origin": ""}, "", True),
        ({"sec-fetch-site": "none"}, "", True),
        ({"origin": PAGE, "sec-fetch-site": "same-origin"}, "", True),  # a proxy rewrites Host
        ({"sec-fetch-site": "same-site"}, "", True),
        ({"origin": PAGE}, "", False),
        ({"origin": "http://127.0.0.1:81"}, "", False),
        ({"origin": "http://127.0.0.1.page.example"}, "", False),
        ({"origin": "http://localhost"}, "", False),
        ({"origin": "null"}, "", False),
        ({"origin": "chrome-extension://abcdef"}, "", False),
        ({"origin": "app://127.0.0.1"}, "", False),
        ({"origin": PAGE, "sec-fetch-site": "same-site"}, "", False),
        ({"sec-fetch-site": "cross-site"}, "", False),
        ({"origin": PAGE}, PAGE, True),
        ({"origin": PAGE, "sec-fetch-site": "cross-site"}, PAGE, True),
        ({"origin": PAGE + ":444"}, PAGE, False),
        ({"origin": "null"}, PAGE, False),
        ({"sec-fetch-site": "cross-site"}, PAGE, False),
        ({"origin": "app://obsidian.md"}, "app://obsidian.md", True),
        ({"origin": PAGE}, "*", True),
        ({"origin": "null", "sec-fetch-site": "cross-site"}, "*", True),
    ],
)
def test_a_page_may_call_only_from_an_allowed_or_own_origin(
    headers: dict[str, str], allowed: str, passes: bool
) -> None:
    request = SanicRequest(b"/", Header({"host": "127.0.0.1", **headers}), "1.1", "POST", None, None)  # type: ignore[arg-type]
    with contextlib.nullcontext() if passes else pytest.raises(OriginNotAllowedError, match=r"server\.cors_origins"):
        cors.check_origin(request, cors.origins(ServerSettings(cors_origins=allowed)))


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/tokenize", "/nope"])
def test_a_page_of_another_site_cannot_make_the_server_work(server: FakeServer, path: str) -> None:
    headers = JSON | {"origin": PAGE, "content-length": "1000000", "expect": "100-continue"}
    answer = server.request("POST", path, b"", headers)  # no byte of the body has come
    assert answer.status == 403
    assert server.request("GET", "/health", headers={"origin": PAGE, "sec-fetch-site": "cross-site"}).status == 200


OPEN = {"/health", "/ready"}


@pytest.mark.parametrize("headers", [{"origin": PAGE}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}], ids=str)
def test_a_page_of_another_site_gets_403_from_every_route(server: FakeServer, headers: dict[str, str]) -> None:
    paths = server.get("/openapi.json").json["paths"]
    operations = {(method.upper(), path) for path, methods in paths.items() for method in methods if path not in OPEN}
    assert len(operations) > 15
    handshake = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
    sent = [(*operation, headers) for operation in operations] + [("GET", "/v1/responses", headers | handshake)]
    for method, path, given in sent:
        answer = server.request(method, path.replace("{", "").replace("}", ""), headers=given)
        assert answer.status == 403, (method, path)


def test_allowed_pages_get_cors_headers(guarded: FakeServer) -> None:

    page = PAGE

    def allowed(origin: str, method: str = "GET", path: str = "/v1/models") -> str | None:
        answer = guarded.request(method, path, headers={"origin": origin})
        assert answer.headers["vary"] == "origin"
        assert "access-control-allow-credentials" not in answer.headers
        assert answer.status == (204 if method == "OPTIONS" else 401 if origin in (page, "") else 403)
        return answer.headers.get("access-control-allow-origin")

    assert allowed(page) == page
    assert allowed(page, "OPTIONS", "/v1/chat/completions") == page
    for origin in ("null", "https://evil.example", "http://page.example", page + ".evil.example", page + ":444", ""):
        assert allowed(origin) is None
        assert allowed(origin, "OPTIONS") is None
    preflight = guarded.request("OPTIONS", "/v1/chat/completions", headers={"origin": page})
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    sdk = "authorization,x-stainless-os, anthropic-dangerous-direct-browser-access,openai-beta"
    asked = guarded.request("OPTIONS", "/v1/messages", headers={"origin": page, "access-control-request-headers": sdk})
    assert asked.headers["access-control-allow-headers"] == sdk
    assert guarded.request("OPTIONS", "/nope", headers={"origin": page}).status == 401


def test_an_invalid_origin_is_refused() -> None:
    assert cors.origins(ServerSettings(cors_origins="*")) == {"*"}
    for given in ("page.example", "https://", "https://page.example/", "null", "://page.example"):
        with pytest.raises(ConfigError, match="cors_origins"):
            cors.origins(ServerSettings(cors_origins=given))


def test_a_wildcard_origin_is_answered_with_a_wildcard() -> None:
    with fake_server(server={"cors_origins": "*"}) as server:
        answer = server.request("GET", "/v1/models", headers={"origin": "https://any.example"})
        assert answer.headers["access-control-allow-origin"] == "*"
        null = server.request("GET", "/v1/models", headers={"origin": "null"})
        assert "access-control-allow-origin" not in null.headers
        streamed = server.request(
            "POST", "/v1/chat/completions", chat_body(stream=True, max_tokens=1), JSON | {"origin": "https://a.example"}
        )
        assert streamed.headers["access-control-allow-origin"] == "*"
        assert "x-infrs-ignored" in streamed.headers["access-control-expose-headers"]
