"""The first output of a server that is ready: its models, its URL and a request to try."""

from __future__ import annotations

import json
import logging
import shlex
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import click

from infrs import __version__
from infrs.config.settings import LogFormat
from infrs.core import SamplingParams
from infrs.http.observability.logs import JsonFormatter
from infrs.models.encoders.classifier import ClassifierModel
from infrs.models.encoders.embedding_model import EmbeddingModel
from infrs.models.encoders.served import ServedClassifier, ServedEmbeddingModel
from infrs.models.loaded import LoadedModel
from infrs.models.registry import ModelRegistry

_QUESTION = "How many days are in a week?"  # the demo answers "7 days" in every dtype (tests/e2e)


@dataclass(frozen=True, slots=True)
class Start:
    """The start of a server. began: seconds of the monotonic clock. with_key: whether requests need an API key."""

    listener: socket.socket
    began: float
    with_key: bool
    log_format: LogFormat

    @property
    def url(self) -> str:
        """Return a URL of the server that works on this machine."""
        host, port = self.listener.getsockname()[:2]
        if host in ("0.0.0.0", "::"):  # noqa: S104  # every interface, so this one too
            host = "127.0.0.1"
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def announce(start: Start, registry: ModelRegistry) -> None:
    """Print that the server is ready: lines of text, or one event in JSON, as the log has them."""
    facts = dict(_facts(registry))
    lines = [f"infrs {__version__} serves {model} at {start.url}: {words}" for model, words in facts.items()]
    if on_demand := [entry.model_id for entry in registry.entries if not entry.spec.at_start]:
        lines.append(f"On demand: {', '.join(on_demand)}")
    seconds = time.monotonic() - start.began
    if start.log_format == "text":
        click.echo("\n".join([*lines, f"Ready in {seconds:.1f} s", f"Try: {_command(start, registry)}"]))
        return
    fields = {"event": "ready", "url": start.url, "seconds": round(seconds, 3), "models": [*facts]}
    record = {"name": "infrs.server", "levelname": "INFO", "msg": "; ".join(lines), "fields": fields}
    click.echo(JsonFormatter().format(logging.makeLogRecord(record)))


def _facts(registry: ModelRegistry) -> Iterator[tuple[str, str]]:
    """Yield each model's id and a description."""
    for chat in registry.chat_models:
        yield chat.model_id, f"{chat.model.manifest.dtype}, {_of_chat(chat.model)}"
    for embedding in registry.embedding_models:
        yield embedding.model_id, f"{embedding.model.manifest.dtype}, {_of_embedding(embedding.model)}"
    for classifier in registry.classifiers:
        yield classifier.model_id, f"{classifier.model.manifest.dtype}, {_of_classifier(classifier.model)}"


def _of_chat(model: LoadedModel) -> str:
    stats = model.engine.snapshot()
    words = stats.kernels.split(maxsplit=2)  # instructions, build, and a note if nodes fall back
    kernels = " ".join([f"infrs's {words[0]} kernels", *words[2:]]) if words else "ONNX Runtime's kernels"
    return (
        f"{model.manifest.graph} graph, {kernels}, {_threads(stats.threads)}, {stats.num_rows} slots, "
        f"context {stats.max_model_len}, prefix cache up to {stats.max_cache_bytes / 1e9:.2g} GB"
        f"{_draft(model)}{_defaults(model.sampling)}"
    )


def _of_embedding(model: EmbeddingModel) -> str:
    manifest = model.manifest
    return (
        f"embeddings of {manifest.dimensions} numbers, texts of up to {manifest.context_length} tokens, "
        f"{_threads(model.encoder.threads)}"
    )


def _of_classifier(model: ClassifierModel) -> str:
    manifest = model.manifest
    return (
        f"classifier with {len(manifest.labels)} label{'s' * (len(manifest.labels) > 1)}, pairs of up to "
        f"{manifest.context_length} tokens, {_threads(model.encoder.threads)}"
    )


def _command(start: Start, registry: ModelRegistry) -> str:
    """Return a command that sends a request to the first model."""
    first = registry.listed[0]
    fields: dict[str, Any]
    if first.kind is ServedEmbeddingModel:
        path, fields = "embeddings", {"input": _QUESTION}
    elif first.kind is ServedClassifier:
        path, fields = "rerank", {"query": _QUESTION, "documents": ["Seven.", "On Monday."]}
    else:
        path, fields = "chat/completions", {"messages": [{"role": "user", "content": _QUESTION}], "temperature": 0}
    key = " -H 'authorization: Bearer YOUR_API_KEY'" if start.with_key else ""
    data = shlex.quote(json.dumps({"model": first.model_id, **fields}))
    return f"curl {start.url}/v1/{path}{key} -H 'content-type: application/json' -d {data}"


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


def _draft(model: LoadedModel) -> str:
    """Return the draft model, in words: its dtype, and its id if it is another model."""
    if model.draft is None:
        return ""
    other = model.draft.source.model_id
    return f", draft model {model.draft.dtype}" + ("" if other == model.model_id else f" {other}")


def _defaults(sampling: SamplingParams) -> str:
    """Return how the model's own sampling differs from OpenAI's, in words."""
    neutral = asdict(SamplingParams())
    own = [f"{name} {value:g}" for name, value in asdict(sampling).items() if value != neutral[name]]
    return f", by default {', '.join(own)}" if own else ""
