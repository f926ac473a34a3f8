"""`infrs-serve`: settings, bundle, server."""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path

import click

from infrs import __version__
from infrs.bundle.manifest import read_manifest
from infrs.cli.announce import Start, announce
from infrs.cli.choose_model import as_served, of_bundle, of_the_cache
from infrs.cli.command import run as run_command
from infrs.cli.export_missing import export_draft, find_cached, find_or_export
from infrs.cli.flags import SettingsCommand, help_all, settings_flags, text_values
from infrs.config.merge import CONFIG_FILE, ENV_PREFIX, flag_name, load_settings
from infrs.config.settings import ModelSettings
from infrs.errors import ConfigError
from infrs.http.app import create_app, listen, run
from infrs.http.auth import load_keys
from infrs.http.observability import logs
from infrs.models.draft_bundle import check_drafts
from infrs.models.load import load_models

DEMO_MODEL = "demo/SmolLM2-135M-Instruct"

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
@click.option("--demo", is_flag=True, help=f"Serve {DEMO_MODEL}, a toy model that shows that the server works.")
@click.option("--bundle", type=click.Path(path_type=Path), help="Serve the exported bundle in this directory.")
@settings_flags
@help_all
@click.version_option(__version__, prog_name="infrs-serve")
def command(
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
    check_drafts(settings.all_models, settings.engine)
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
    for each, _ in chosen:
        export_draft(each)
    fixed = settings.model

    def find(model: ModelSettings) -> Path:
        return bundle if bundle is not None and model is fixed else find_cached(model)

    settings = as_served(settings, [read_manifest(path) for _, path in chosen])
    app = create_app(
        settings,
        keys,
        partial(load_models, chosen=chosen, settings=settings, find=find),
        partial(announce, Start(listener, started, bool(keys), settings.server.log_format)),
    )
    sys.exit(run(app, listener))


def _check_one_model(model: str | None, flags: dict[str, str], *, demo: bool, bundle: Path | None) -> None:
    """Raise ConfigError if two arguments name a model, or if one contradicts the bundle."""
    given = {
        f"MODEL ({model})": model is not None,
        "--model": "model.model_id" in flags,
        "--demo": demo,
        "--bundle": bool(bundle),
    }
    names = [name for name, is_given in given.items() if is_given]
    if len(names) > 1:
        raise ConfigError(f"{' and '.join(names)} each name a model; give only one of them", param="model.model_id")
    key = next((key for key in ("model.dtype", "model.revision") if bundle and key in flags), None)
    if key:
        raise ConfigError(
            f"--bundle and {flag_name(key)} exclude each other: a bundle has its own; remove one", param=key
        )


def serve() -> None:
    """Run the command."""
    run_command(command, "infrs-serve")
