"""Metrics in Prometheus' text format. Each server has its own registry: no process-wide state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_FIRST_TOKEN = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_BETWEEN_TOKENS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_DURATION = (0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_QUEUE = (0.001, 0.01, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_STEP = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_BATCH = (1, 2, 4, 8, 16, 32, 64)
_LAG = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

Metric = TypeVar("Metric", Counter, Gauge, Histogram)
Read = Callable[[], float]


class Metrics:
    """Counters, gauges and histograms of a server. A label takes few values: models, routes, statuses, error codes.

    What depends on a model has the label `model`; `ModelMetrics` and `ChatMetrics` set it.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)  # process_resident_memory_bytes, process_open_fds and so on
        counter, gauge, seconds = self._counter, self._gauge, self._seconds
        self.requests = counter("requests", "Requests answered.", "route", "status")
        self.errors = counter("errors", "Requests refused or failed, by error code.", "code")
        self.cancelled = counter("requests_cancelled", "Requests cancelled by a disconnected client.")
        self.drained = counter("requests_drained", "Requests answered during shutdown.")
        self.refused_connections = counter("connections_refused", "Connections refused or closed for their number.")
        self.duration = seconds("request", "From the request's head to its last byte.", _DURATION, "route")
        self.loop_lag = seconds("event_loop_lag", "Delay of the event loop's timers.", _LAG)
        self.prompt_tokens = counter("prompt_tokens", "Prompt tokens of answered requests.", "model")
        self.reused_tokens = counter("prompt_tokens_reused", "Prompt tokens taken from the prefix cache.", "model")
        self.output_tokens = counter("output_tokens", "Tokens generated.", "model")
        self.violations = counter("invariant_violations", "Engine invariants found broken.", "model")
        self.first_token = seconds("time_to_first_token", "From head to first token.", _FIRST_TOKEN, "model")
        self.between_tokens = seconds("time_between_tokens", "Between tokens.", _BETWEEN_TOKENS, "model")
        self.queue_wait = seconds("queue_wait", "From the queue to a slot.", _QUEUE, "model")
        self.step = seconds("step", "One engine step.", _STEP, "model")
        self.batch_size = Histogram(
            "infrs_batch_size", "Running sequences in a step.", ["model"], buckets=_BATCH, registry=self._registry
        )
        self.running = gauge("requests_running", "Sequences in a slot.", "model")
        self.waiting = gauge("requests_waiting", "Sequences in the queue.", "model")
        self.kv_used = gauge("kv_used_ratio", "Part of the KV cache that running sequences use.", "model")
        self.embedding_open = gauge("embedding_requests_open", "Embedding requests that run or wait.", "model")
        self.classifier_open = gauge("classifier_requests_open", "Rerank and score requests that run or wait.", "model")
        self.draft_tokens = self._total("draft_tokens", "Draft tokens proposed.")
        self.accepted_tokens = self._total("accepted_tokens", "Draft tokens accepted.")
        self.guessed_tokens = self._total("guessed_tokens", "Deprecated: infrs_draft_tokens_total.")
        self.confirmed_tokens = self._total("confirmed_tokens", "Deprecated: infrs_accepted_tokens_total.")
        self.model_draft_tokens = self._total("model_draft_tokens", "Of the draft tokens, those of the draft model.")
        self.model_accepted_tokens = self._total("model_accepted_tokens", "Of those, the accepted ones.")
        self.preemptions = self._total("preemptions", "Sequences preempted.")

    def gauge(self, name: str, help_text: str, read: Read) -> None:
        """Add a gauge that calls `read` at each scrape. `name` has no prefix."""
        self._gauge(name, help_text).set_function(read)

    def render(self) -> bytes:
        """Return all metrics as text."""
        return generate_latest(self._registry)

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"infrs_{name}", help_text, labels, registry=self._registry)

    def _gauge(self, name: str, help_text: str, *labels: str) -> Gauge:
        return Gauge(f"infrs_{name}", help_text, labels, registry=self._registry)

    def _seconds(self, name: str, help_text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"infrs_{name}_seconds", help_text, labels, buckets=buckets, registry=self._registry)

    def _total(self, name: str, help_text: str) -> ModelTotals:
        totals = ModelTotals(f"infrs_{name}", help_text)
        self._registry.register(totals)
        return totals


class ModelTotals(Collector):
    """A counter with the label `model` that reads values kept elsewhere."""

    def __init__(self, name: str, help_text: str) -> None:
        self._name, self._help_text = name, help_text
        self._reads: dict[str, Read] = {}

    def add(self, model_id: str, read: Read) -> None:
        """Call `read` at each scrape for a model's value."""
        self._reads[model_id] = read

    def remove(self, model_id: str) -> None:
        """Drop a model's value."""
        self._reads.pop(model_id, None)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the values of all models."""
        family = CounterMetricFamily(self._name, self._help_text, labels=["model"])
        for model_id, read in self._reads.items():
            family.add_metric([model_id], read())
        yield family


class ModelMetrics:
    """The metrics of one model. `close` removes them, so that an unloaded model leaves no series."""

    def __init__(self, metrics: Metrics, model_id: str) -> None:
        self._model_id = model_id
        self._families: list[Counter | Gauge | Histogram | ModelTotals] = []
        self.prompt_tokens = self.bind(metrics.prompt_tokens)

    def bind(self, family: Metric) -> Metric:
        """Return a metric with this model's label."""
        self._families.append(family)
        return family.labels(self._model_id)

    def bind_total(self, family: ModelTotals, read: Read) -> None:
        """Export a value of this model that is kept elsewhere."""
        self._families.append(family)
        family.add(self._model_id, read)

    def close(self) -> None:
        """Remove the metrics of this model."""
        for family in self._families:
            if isinstance(family, Gauge):
                # A gauge is in a reference cycle with its function, which would keep the model in memory.
                family.labels(self._model_id).set_function(float)
            family.remove(self._model_id)


class ChatMetrics(ModelMetrics):
    """The metrics of a chat model. Also an `infrs.engine.service.Observer`: its methods run on the engine thread."""

    def __init__(self, metrics: Metrics, model_id: str) -> None:
        super().__init__(metrics, model_id)
        self.reused_tokens = self.bind(metrics.reused_tokens)
        self.output_tokens = self.bind(metrics.output_tokens)
        self.first_token = self.bind(metrics.first_token)
        self.between_tokens = self.bind(metrics.between_tokens)
        self._violations = self.bind(metrics.violations)
        self._queue_wait = self.bind(metrics.queue_wait)
        self._step = self.bind(metrics.step)
        self._batch_size = self.bind(metrics.batch_size)

    def started(self, request_id: str, waited: float) -> None:
        """See Observer."""
        self._queue_wait.observe(waited)

    def stepped(self, took: float, num_running: int) -> None:
        """See Observer."""
        self._step.observe(took)
        self._batch_size.observe(num_running)

    def violated(self) -> None:
        """See Observer."""
        self._violations.inc()
