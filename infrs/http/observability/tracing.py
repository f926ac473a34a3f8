"""OpenTelemetry: one span per request, with events when it was queued, got a slot and got its first token.

A span contains numbers and names only: no prompt, answer, key or query. The extra `otel` installs the SDK. Its own
variables configure the export (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER and others).
The attributes follow the semantic conventions 1.37, https://opentelemetry.io/docs/specs/semconv/.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infrs import __version__
from infrs.core import RequestContext
from infrs.engine.service import Observer
from infrs.errors import ConfigError
from infrs.extras import install_command
from infrs.http.observability.request_metrics import Meter
from infrs.metrics import ChatMetrics

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_MAX_WAITS = 4096  # kept for requests that have not ended


@dataclass(frozen=True, slots=True)
class Submission:
    """The engine requests of a client request: their ids, the time of submission (`perf_counter`), their meter."""

    context: RequestContext
    request_ids: Sequence[str]
    submitted: float
    meter: Meter


class _WaitObserver:
    """Observes an engine for a model's metrics and keeps how long each request waited for a slot."""

    def __init__(self, metrics: ChatMetrics, waits: dict[str, float]) -> None:
        self._waits = waits
        self._metrics = metrics
        self.stepped = metrics.stepped
        self.violated = metrics.violated

    def started(self, request_id: str, waited: float) -> None:
        """See `infrs.engine.service.Observer`."""
        self._metrics.started(request_id, waited)
        if len(self._waits) < _MAX_WAITS:
            self._waits[request_id] = waited


class Traces:
    """Exports a span for each request that has ended."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("infrs", __version__)
        self._waits: dict[str, float] = {}

    def observe(self, metrics: ChatMetrics) -> Observer:
        """Return an observer of an engine that feeds a model's metrics and the spans."""
        return _WaitObserver(metrics, self._waits)

    def record(
        self,
        *,
        method: str,
        route: str,
        status: int,
        request_id: str,
        received: float,
        headers: Mapping[str, str],
        submission: Submission | None,
    ) -> None:
        """Export the span of a request that ends now. received: `perf_counter` at its head."""
        from opentelemetry.propagate import extract  # noqa: PLC0415  # of the extra
        from opentelemetry.trace import SpanKind, Status, StatusCode  # noqa: PLC0415

        now = time.perf_counter()
        epoch = time.time_ns() - int(1e9 * now)
        parent = extract({name: headers[name] for name in ("traceparent", "tracestate") if name in headers})
        span = self._tracer.start_span(
            f"{method} {route}", parent, SpanKind.SERVER, start_time=epoch + int(1e9 * received)
        )
        span.set_attributes(
            {
                "http.request.method": method,
                "http.route": route,
                "http.response.status_code": status,
                "infrs.request_id": request_id,
            }
        )
        if submission is not None:
            usage = submission.meter.usage
            span.set_attribute("gen_ai.response.model", submission.context.model_id or "")
            span.set_attribute("gen_ai.usage.input_tokens", usage.num_prompt_tokens)
            span.set_attribute("gen_ai.usage.output_tokens", usage.num_output_tokens)
            span.set_attribute("infrs.reused_tokens", usage.num_reused_tokens)
            for name, moment in self._moments(submission):
                span.add_event(name, timestamp=epoch + int(1e9 * moment))
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end(epoch + int(1e9 * now))

    def _moments(self, submission: Submission) -> list[tuple[str, float]]:
        """Return the events of a request in the engine, as far as it got."""
        moments = [("queued", submission.submitted)]
        waits = [wait for name in submission.request_ids if (wait := self._waits.pop(name, None)) is not None]
        if waits:
            moments.append(("prefill", submission.submitted + min(waits)))
        if submission.meter.first is not None:
            moments.append(("decode", submission.meter.first))
        return moments


def open_traces() -> Traces:
    """Return traces that are exported in batches over OTLP. Raises ConfigError if the extra `otel` is missing.

    The OTEL_ variables configure the export.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError:
        raise ConfigError(
            f"server.traces needs the extra `otel`; run: {install_command('otel')}", param="server.traces"
        ) from None
    named = {"service.version": __version__}
    if "OTEL_SERVICE_NAME" not in os.environ:
        named["service.name"] = "infrs"
    provider = TracerProvider(resource=Resource.create(named))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Traces(provider)
