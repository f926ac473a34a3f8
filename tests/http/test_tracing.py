"""A collector gets one OpenTelemetry span for each request, without any text of the client."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from fake_process import JSON, MODEL, chat_body, fake_server
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from infrs.errors import ConfigError
from infrs.http.observability.tracing import Traces, open_traces
from infrs.metrics import ChatMetrics, Metrics

KEY = "a-key-of-this-server"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Collector(ThreadingHTTPServer):
    """Keeps what is sent to it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: list[bytes] = []

    @property
    def spans(self) -> list[Any]:
        spans = []
        for body in self.bodies:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                spans += [span for scope in resource.scope_spans for span in scope.spans]
        return spans


class Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:  # the library's name
        self.server.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # the library's name
        pass


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{running.server_port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        yield running
        running.shutdown()


def attributes(span: Any) -> dict[str, object]:
    return {entry.key: getattr(entry.value, entry.value.WhichOneof("value")) for entry in span.attributes}


def test_each_request_has_a_span(collector: Collector) -> None:
    headers = JSON | {"authorization": f"Bearer {KEY}"}
    with fake_server(engine="synthetic", keys=KEY, server={"traces": True}) as server:
        for stream in (False, True):
            body = chat_body("canary", stream=stream, max_tokens=5, seed=1, ignore_eos=True)
            answer = server.request(
                "POST", "/v1/chat/completions", body, headers | {"traceparent": PARENT, "x-request-id": f"id-{stream}"}
            )
            assert answer.status == 200
        server.request("GET", f"/v1/models/{MODEL}?canary", headers=headers)
        assert server.request("GET", "/canary?canary", headers=headers).status == 404
        assert server.request("GET", "/props", headers=JSON | {"authorization": "Bearer canary-key"}).status == 401
        server.process.terminate()
        assert server.process.wait(20) == 0
    spans = collector.spans
    chats = [span for span in spans if span.name == "POST /v1/chat/completions"]
    assert [attributes(span)["infrs.request_id"] for span in chats] == ["id-False", "id-True"]
    for span in chats:
        assert span.kind == span.SPAN_KIND_SERVER
        assert span.trace_id.hex() == PARENT.split("-")[1]
        assert span.parent_span_id.hex() == PARENT.split("-")[2]
        assert [event.name for event in span.events] == ["queued", "prefill", "decode"]
        times = [span.start_time_unix_nano, *(event.time_unix_nano for event in span.events), span.end_time_unix_nano]
        assert times == sorted(times)
        recorded = attributes(span)
        assert (recorded["http.response.status_code"], recorded["gen_ai.usage.output_tokens"]) == (200, 5)
        assert recorded["gen_ai.response.model"] == MODEL
        assert int(str(recorded["gen_ai.usage.input_tokens"])) > 5
    others = {(span.name, attributes(span)["http.response.status_code"]) for span in spans if span not in chats}
    assert others == {("GET /v1/models/<model_id:path>", 200), ("HTTP none", 404), ("HTTP none", 401)}  # before a route
    sent = b"".join(collector.bodies)
    assert b"canary" not in sent
    assert KEY.encode() not in sent


def test_waits_of_requests_that_never_end_are_bounded() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    traces = Traces(provider)
    observer = traces.observe(ChatMetrics(Metrics(), "model"))
    for number in range(10_000):
        observer.started(str(number), 0.1)
    traces.record(
        method="GET",
        route="/x",
        status=503,
        request_id="r",
        received=0.0,
        headers={"traceparent": "no"},
        submission=None,
    )
    (span,) = exporter.get_finished_spans()
    assert (span.name, span.status.is_ok, span.parent) == ("GET /x", False, None)
    assert len(traces._waits) < 5000


def test_tracing_without_the_extra_is_refused_with_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigError, match=r"pip install .*\[otel\]") as caught:
        open_traces()
    assert caught.value.param == "server.traces"
