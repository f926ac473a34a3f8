"""What the server counts, in Prometheus' text format. One registry a server: no process-wide state."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_FIRST_TOKEN = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_BETWEEN_TOKENS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_DURATION = (0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class Metrics:
    """Counters, gauges and histograms. Labels take a bounded set of values: routes and statuses, never user text."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter("infrs_requests", "Requests answered.", ["route", "status"], registry=registry)
        self.refused_connections = Counter(
            "infrs_connections_refused", "Connections beyond server.max_connections.", registry=registry
        )
        self.duration = Histogram(
            "infrs_request_seconds", "From head to last byte.", ["route"], buckets=_DURATION, registry=registry
        )
        self.prompt_tokens = Counter("infrs_prompt_tokens", "Prompt tokens of answered requests.", registry=registry)
        self.output_tokens = Counter("infrs_output_tokens", "Tokens generated.", registry=registry)
        self.first_token = Histogram(
            "infrs_time_to_first_token_seconds", "From head to first token.", buckets=_FIRST_TOKEN, registry=registry
        )
        self.between_tokens = Histogram(
            "infrs_time_between_tokens_seconds", "Token to token.", buckets=_BETWEEN_TOKENS, registry=registry
        )

    def gauge(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        """Add a gauge that is read when it is scraped."""
        Gauge(name, help_text, registry=self._registry).set_function(read)

    def render(self) -> bytes:
        """All metrics, as text."""
        return generate_latest(self._registry)
