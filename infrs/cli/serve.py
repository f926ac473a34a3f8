"""`infrs-serve`: settings, bundle, server."""

from __future__ import annotations

import json
import shlex
import socket
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click

from infrs import __version__
from infrs.bundle.manifest import read_manifest
from infrs.cli.choose_model import as_served, of_bundle, of_the_cache
from infrs.cli.command import run as run_command
from infrs.cli.export_missing import find_or_export
from infrs.cli.flags import SettingsCommand, settings_flags, text_values
from infrs.config.layers import CONFIG_FILE, ENV_PREFIX, flag_name, load_settings
from infrs.core import SamplingParams
from infrs.errors import ConfigError
from infrs.http.app import create_app, listen, run
from infrs.http.auth import load_keys
from infrs.http.observability import logs
from infrs.models.load import load_models
from infrs.models.registry import ModelRegistry

DEMO_MODEL = "demo/SmolLM2-135M-Instruct"
_QUESTION = "How many days are in a week?"  # the demo answers "7 days" in every dtype (tests/e2e)

_EPILOG = f"""
Every setting has a flag, an environment variable ({ENV_PREFIX}SERVER__PORT=8081) and a place in the configuration
file ({{"server": {{"port": 8081}}}}). Flags override the environment, the environment overrides the file, and the file
overrides the defaults.
"""


@click.command(
    cls=SettingsCommand,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.argument("model", required=False)
@click.option(
    "--config", type=click.Path(path_type=Path), help=f"Configuration file. [default: ./{CONFIG_FILE}, if present]"
)
@click.option("--demo", is_flag=True, help=f"Serve {DEMO_MODEL}.")
@click.option("--bundle", type=click.Path(path_type=Path), help="Serve the exported bundle in this directory.")
@settings_flags
@click.version_option(__version__, prog_name="infrs-serve")
def _command(
    model: str | None, config: Path | None, demo: bool, bundle: Path | None, **values: str | bool | None
) -> None:
    """Serve MODEL with an OpenAI-compatible API.

    MODEL is a Hub id, a model folder or a .gguf file. It is exported first if the cache does not hold its bundle.
    Without MODEL, the server uses the model that the settings name, or the only one in the cache.
    """
    started = time.monotonic()
    flags = text_values(values)
    _check_one_model(model, flags, demo=demo, bundle=bundle)
    if demo or model is not None:
        flags["model.model_id"] = DEMO_MODEL if model is None else model
    settings = load_settings(config=config, flags=flags)
    logs.to_stderr(settings.server)
    keys = load_keys(settings.server)
    listener = listen(settings.server)
    if bundle is not None:
        settings = of_bundle(settings, read_manifest(bundle))
        settings.check_models()
    else:
        settings = of_the_cache(settings)
    chosen = [
        (each, bundle if bundle is not None and each is settings.model else find_or_export(each))
        for each in settings.all_models
    ]
    settings = as_served(settings, [read_manifest(path) for _, path in chosen])
    app = create_app(
        settings,
        keys,
        partial(load_models, chosen=chosen, settings=settings),
        partial(_announce, listener=listener, started=started, with_key=bool(keys)),
    )
    sys.exit(run(app, listener))


def _check_one_model(model: str | None, flags: dict[str, str], *, demo: bool, bundle: Path | None) -> None:
    """Raise ConfigError if two arguments name a model, or if one contradicts the bundle."""
    given = {"MODEL": model is not None, "--model": "model.model_id" in flags, "--demo": demo, "--bundle": bool(bundle)}
    names = [name for name, is_given in given.items() if is_given]
    if len(names) > 1:
        raise ConfigError(f"{' and '.join(names)} each name a model; give only one of them", param="model.model_id")
    key = next((key for key in ("model.dtype", "model.revision") if bundle and key in flags), None)
    if key:
        raise ConfigError(
            f"--bundle and {flag_name(key)} exclude each other: a bundle has its own; remove one", param=key
        )


def _announce(registry: ModelRegistry, *, listener: socket.socket, started: float, with_key: bool) -> None:
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104  # every interface, so this one too
        host = "127.0.0.1"
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    facts, path = [], "embeddings"
    body: dict[str, Any] = {"model": registry.models[0].model_id, "input": _QUESTION}
    for chat in (served.model for served in registry.chat_models):
        stats, path = chat.engine.snapshot(), "chat/completions"
        words = stats.kernels.split(maxsplit=2)  # instructions, build, and a note if nodes fall back
        kernels = " ".join([f"infrs's {words[0]} kernels", *words[2:]]) if words else "ONNX Runtime's kernels"
        facts.append(
            f"{chat.manifest.graph} graph, {kernels}, {_threads(stats.threads)}, {stats.num_rows} slots, "
            f"context {stats.max_model_len}, prefix cache up to {stats.max_cache_bytes / 1e9:.2g} GB"
            f"{_defaults(chat.sampling)}"
        )
        messages = [{"role": "user", "content": _QUESTION}]
        body = {"model": chat.model_id, "messages": messages, "temperature": 0}
    facts += [
        f"embeddings of {model.manifest.dimensions} numbers, texts of up to {model.manifest.context_length} tokens, "
        f"{_threads(model.encoder.threads)}"
        for model in (served.model for served in registry.embedding_models)
    ]
    for served, fact in zip(registry.models, facts, strict=True):
        click.echo(f"infrs {__version__} serves {served.model_id} at {url}: {served.model.manifest.dtype}, {fact}")
    key = " -H 'authorization: Bearer YOUR_API_KEY'" if with_key else ""
    click.echo(
        f"Ready in {time.monotonic() - started:.1f} s\n"
        f"Try: curl {url}/v1/{path}{key} -H 'content-type: application/json' -d {shlex.quote(json.dumps(body))}"
    )


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


def _defaults(sampling: SamplingParams) -> str:
    """How the model's own sampling differs from OpenAI's, in words."""
    neutral = asdict(SamplingParams())
    own = [f"{name} {value:g}" for name, value in asdict(sampling).items() if value != neutral[name]]
    return f", by default {', '.join(own)}" if own else ""


def serve() -> None:
    """Run the command."""
    run_command(_command, "infrs-serve")
