"""`infrs models` and `infrs pull`: what the cache holds, and how it gets there."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from infrs.bundle.manifest import AnyManifest, bundles
from infrs.cli.export_missing import find_or_export
from infrs.config.merge import load_settings
from infrs.config.settings import ModelSettings
from infrs.errors import BundleNotFoundError
from infrs.terminal.completion import complete_model

_HELP = {"help_option_names": ["-h", "--help"]}
_cache_dir = click.option("--cache-dir", help="Directory of the exported bundles. [default: as for infrs-serve]")
_dtype = click.option("--dtype", help="How the weights are stored. [default: as for infrs-serve]")


@click.group(invoke_without_command=True, context_settings=_HELP)
@_cache_dir
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@click.pass_context
def models(context: click.Context, cache_dir: str | None, as_json: bool) -> None:  # by name
    """List the models in the cache."""
    cache = _settings({"model.cache_dir": cache_dir}).cache_dir
    context.obj = cache
    if context.invoked_subcommand is not None:
        return
    rows = [describe(manifest, path) for manifest, path in sorted(bundles(cache), key=lambda pair: str(pair[1]))]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif rows:
        _print_table(rows)
    else:
        click.echo(f"{cache} holds no model. To begin: infrs pull Qwen/Qwen3-0.6B", err=True)


@models.command(context_settings=_HELP)
@click.argument("model", shell_complete=complete_model)
@_dtype
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def remove(cache: Path, model: str, dtype: str | None, yes: bool) -> None:  # by name
    """Remove MODEL from the cache, in all dtypes or one."""
    found = [
        (manifest, path)
        for manifest, path in bundles(cache)
        if manifest.source.model_id == model and dtype in (None, manifest.dtype)
    ]
    if not found:
        raise BundleNotFoundError(f"{cache} holds no{f' {dtype}' if dtype else ''} bundle of {model}; see infrs models")
    for manifest, path in found:
        if yes or click.confirm(f"Remove {path} ({_gigabytes(manifest)})?"):
            hidden = path.rename(path.with_name(f".removed-{path.name}"))  # in one step: no half of a bundle is served
            shutil.rmtree(hidden)
            click.echo(f"Removed {path}")


@click.command(context_settings=_HELP)
@click.argument("model", shell_complete=complete_model)
@_dtype
@click.option("--revision", help="Branch, tag or commit of a Hub model. [default: as for infrs-serve]")
@_cache_dir
def pull(model: str, dtype: str | None, revision: str | None, cache_dir: str | None) -> None:
    """Export MODEL into the cache, unless it is there.

    MODEL is a Hub id, a model folder or a .gguf file.
    """
    given = {"model_id": model, "dtype": dtype, "revision": revision, "cache_dir": cache_dir}
    bundle = find_or_export(_settings({f"model.{name}": value for name, value in given.items()}))
    options = [part for name, value in given.items() if value for part in (f"--{name.replace('_', '-')}", value)]
    click.echo(f"{bundle}\nTo serve it: {shlex.join(['infrs-serve', model, *options[2:]])}")


def describe(manifest: AnyManifest, path: Path) -> dict[str, Any]:
    """Return the facts of a bundle that a person chooses by. size: bytes of all files."""
    return {
        "model": manifest.source.model_id,
        "revision": manifest.source.revision,
        "dtype": manifest.dtype,
        "kind": manifest.kind,
        "architecture": manifest.architecture,
        "context_length": manifest.context_length,
        "size": _size(manifest),
        "created": manifest.created,
        "path": str(path),
    }


def _settings(given: dict[str, str | None]) -> ModelSettings:
    return load_settings(flags={key: value for key, value in given.items() if value is not None}).model


def _size(manifest: AnyManifest) -> int:
    return sum(file.size for file in manifest.files.values())


def _gigabytes(manifest: AnyManifest) -> str:
    return f"{_size(manifest) / 1e9:.2f} GB"


def _print_table(rows: Iterable[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False)
    for title in ("Model", "Dtype", "Kind", "Size", "Context", "Exported"):
        table.add_column(title, justify="right" if title in ("Size", "Context") else "left", overflow="fold")
    for row in rows:
        name = row["model"] if row["revision"] == "main" else f"{row['model']} ({row['revision']})"
        size, day = f"{row['size'] / 1e9:.2f} GB", row["created"][:10]
        table.add_row(name, row["dtype"], row["kind"], size, f"{row['context_length']:,}", day)
    Console().print(table)
