"""`infrs-serve`: settings, bundle, server."""

from __future__ import annotations

import json
import shlex
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import click
from pydantic.fields import FieldInfo

from infrs import __version__
from infrs.choosing import of_bundle, of_the_cache
from infrs.command import run as run_command
from infrs.config import CONFIG_FILE, ENV_PREFIX, SECTIONS, Settings, flag_name, load_settings
from infrs.core import SamplingParams
from infrs.errors import ConfigError
from infrs.exporting import find_or_export
from infrs.manifest import read_manifest
from infrs.server import logs
from infrs.server.app import create_app, listen, run
from infrs.server.auth import load_keys
from infrs.server.load import load_served
from infrs.server.state import Served

DEMO_MODEL = "demo/SmolLM2-135M-Instruct"
DEMO_DTYPE = "int8"
_QUESTION = "How many days are in a week?"  # whose answer by the demo names 7 days in every dtype (tests/e2e)

_EPILOG = f"""
Every setting has a flag, an environment variable ({ENV_PREFIX}SERVER__PORT=8081) and a place in the configuration
file ({{"server": {{"port": 8081}}}}). Flags win over the environment, the environment over the file, the file over the
defaults.
"""


def _settings_flags(command: Callable[..., None]) -> Callable[..., None]:
    """One flag for each setting. Their values are text, which `load_settings` checks as it checks the rest."""
    models = f"{Settings.model_fields['models'].description} As ids with commas between them, or JSON. [models]"
    command = click.option("--models", metavar="VALUE", help=models)(command)
    for section, model in reversed(SECTIONS.items()):
        for name, field in reversed(model.model_fields.items()):
            key = f"{section}.{name}"
            flags = [flag_name(key), *(["--model"] if name == "model_id" else [])]
            default = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
            help_text = f"{field.description} [{key}; default: {default}]"
            command = click.option(*flags, key.replace(".", "__"), metavar=_metavar(field), help=help_text)(command)
    return command


def _metavar(field: FieldInfo) -> str:
    """What stands for a flag's value in the help: its words where only these are allowed."""
    words = ("true", "false") if field.annotation is bool else get_args(field.annotation)
    return f"[{'|'.join(words)}]" if words else "VALUE"


@click.command(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--config", type=click.Path(path_type=Path), help=f"Configuration file. [default: ./{CONFIG_FILE} if present]"
)
@click.option("--demo", is_flag=True, help=f"Serve {DEMO_MODEL}, in {DEMO_DTYPE} unless another dtype is set.")
@click.option("--bundle", type=click.Path(path_type=Path), help="Serve this bundle's directory; look for no other.")
@_settings_flags
@click.version_option(__version__, prog_name="infrs-serve")
def _command(config: Path | None, demo: bool, bundle: Path | None, **values: str | None) -> None:
    """Serve an exported model with an OpenAI-compatible API; export it first if that has not been done yet."""
    started = time.monotonic()
    flags = {key.replace("__", "."): value for key, value in values.items() if value is not None}
    if demo and "model.model_id" in flags:
        raise ConfigError("--demo names a model itself; leave out --demo or --model", param="model.model_id")
    if demo:
        flags["model.model_id"] = DEMO_MODEL
    settings = load_settings(config=config, flags=flags, defaults={"model.dtype": DEMO_DTYPE} if demo else None)
    logs.to_stderr(settings.server)
    keys = load_keys(settings.server)
    listener = listen(settings.server)
    if bundle is not None:
        settings = of_bundle(settings, read_manifest(bundle))
        settings.check_models()
    else:
        settings = of_the_cache(settings)
    chosen = [
        (model, bundle if bundle is not None and model is settings.model else find_or_export(model))
        for model in settings.all_models
    ]
    app = create_app(
        settings,
        keys,
        lambda: load_served(chosen, settings),
        lambda served: _announce(served, listener, started, with_key=bool(keys)),
    )
    sys.exit(run(app, listener))


def _announce(served: Served, listener: socket.socket, started: float, *, with_key: bool) -> None:
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104  # every interface, so this one too
        host = "127.0.0.1"
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    told, chat, path = [], served.chat, "embeddings"
    body: dict[str, Any] = {"model": served.models[0].model_id, "input": _QUESTION}
    if chat is not None:
        stats, path = chat.engine.snapshot(), "chat/completions"
        kernels = f"infrs's {stats.kernels.split()[0]}" if stats.kernels else "ONNX Runtime's"
        told.append(
            f"{chat.manifest.graph} graph, {kernels} kernels, {_threads(stats.threads)}, {stats.num_rows} slots, "
            f"context {stats.max_model_len}{_defaults(chat.sampling)}"
        )
        messages = [{"role": "user", "content": _QUESTION}]
        body = {"model": chat.model_id, "messages": messages, "temperature": 0}
    told += [
        f"embeddings of {model.manifest.dimensions} numbers, texts of up to {model.manifest.context_length} tokens, "
        f"{_threads(model.encoder.threads)}"
        for model in served.embedding.values()
    ]
    for model, facts in zip(served.models, told, strict=True):
        click.echo(f"infrs {__version__} serves {model.model_id} at {url}: {model.manifest.dtype}, {facts}")
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
